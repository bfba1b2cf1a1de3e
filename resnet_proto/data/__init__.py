"""Labelled images -> an LMDB that Caffe's Data layer reads; and what is in one.

    folder | list | CIFAR | digits -> Images -> Datum, one an image -> LMDB
    LMDB -> Datum -> mean | contact sheet | Survey

Datum is Caffe's message for one image, (C, H, W), blue before green before red.
"""
