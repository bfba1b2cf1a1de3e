"""Nets in Caffe's older formats, as people spelled them; no writer of ours has a part in it.

Sizes differ on every axis.
"""

# As the LeNet of Caffe's examples in 2014.
LENET = """
name: "LeNet"
input: "data"
input_dim: 2
input_dim: 3
input_dim: 28
input_dim: 24
layers {
  name: "conv1"
  type: CONVOLUTION
  bottom: "data"
  top: "conv1"
  blobs_lr: 1
  blobs_lr: 2
  convolution_param {
    num_output: 5
    kernel_size: 5
    stride: 1
    weight_filler { type: "xavier" }
    bias_filler { type: "constant" }
  }
}
layers {
  name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 }
}
layers {
  name: "ip1" type: INNER_PRODUCT bottom: "pool1" top: "ip1" blobs_lr: 1. blobs_lr: 2.
  weight_decay: 1.
  inner_product_param { num_output: 11 weight_filler { type: "xavier" } }
}
layers { name: "relu1" type: RELU bottom: "ip1" top: "ip1" }
layers { name: "ip2" type: INNER_PRODUCT bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 7 } }
layers { name: "prob" type: SOFTMAX bottom: "ip2" top: "prob" }
"""

# As the train_val of CaffeNet: TRAIN and TEST of one name, groups, LRN, dropout, two outputs.
CAFFENET = """
name: "CaffeNet"
layers {
  name: "data"
  type: DATA
  top: "data"
  top: "label"
  data_param { source: "train_lmdb" backend: LMDB batch_size: 4 }
  transform_param { crop_size: 61 mean_file: "mean.binaryproto" mirror: true }
  include: { phase: TRAIN }
}
layers {
  name: "data"
  type: DATA
  top: "data"
  top: "label"
  data_param { source: "val_lmdb" backend: LMDB batch_size: 2 crop_size: 61 mean_file: "m"
    mirror: false }
  include: { phase: TEST }
}
layers {
  name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param {
    num_output: 6 kernel_size: 11 stride: 4
    weight_filler { type: "gaussian" std: 0.01 }
    bias_filler { type: "constant" value: 0 }
  }
}
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "norm1" type: LRN bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layers {
  name: "conv2" type: 4 bottom: "norm1" top: "conv2"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 8 pad: 2 kernel_size: 5 group: 2 }
}
layers { name: "relu2" type: 18 bottom: "conv2" top: "conv2" }
layers { name: "fc8" type: INNER_PRODUCT bottom: "conv2" top: "fc8"
  inner_product_param { num_output: 9 } }
layers { name: "drop8" type: DROPOUT bottom: "fc8" top: "fc8"
  dropout_param { dropout_ratio: 0.5 } }
layers { name: "accuracy" type: ACCURACY bottom: "fc8" bottom: "label" top: "accuracy" include {
  phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc8" bottom: "label" top: "loss"
  loss_weight: 0.3 }
"""

# Layers of many types, most without weights.
MANY = """
name: 'many' input: 'a' input: "b"
input_shape { dim: 2 dim: 3 dim: 7 dim: 5 } input_shape < dim: [2, 3, 7, 5] >
layers { name: "sum" type: ELTWISE bottom: "a" bottom: "b" top: "sum"
  eltwise_param { operation: SUM coeff: 1 coeff: -.5f } }
layers { name: "cat" type: CONCAT bottom: "a" bottom: "sum" top: "cat"
  concat_param { concat_dim: 1 } }
layers { name: "cut" type: SLICE bottom: "cat" top: "c1" top: "c2"
  slice_param { slice_dim: 1 slice_point: 2 } }
layers { name: "t" type: TANH bottom: "c1" top: "t" }
layers { name: "s" type: SIGMOID bottom: "t" top: "s" }
layers { name: "abs" type: ABSVAL bottom: "c2" top: "abs" }
layers { name: "p" type: POWER bottom: "abs" top: "p"
  power_param { power: 0.5 scale: 2 shift: 1 } }
layers { name: "e" type: EXP bottom: "s" top: "e" exp_param { base: 2 } }
layers { name: "n" type: BNLL bottom: "e" top: "n" }
layers { name: "m" type: MVN bottom: "p" top: "m" mvn_param { across_channels: true } }
layers { name: "th" type: THRESHOLD bottom: "m" top: "th" threshold_param { threshold: 0.1 } }
layers { name: "f" type: FLATTEN bottom: "th" top: "f" }
layers { name: "am" type: ARGMAX bottom: "f" top: "am" argmax_param { top_k: 3 } }
layers { name: "col" type: IM2COL bottom: "a" top: "col"
  convolution_param { kernel_size: 3 stride: 2 } }
layers { name: "up" type: DECONVOLUTION bottom: "b" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 stride: 2 } blobs_lr: 0 }
layers { name: "two" type: SPLIT bottom: "n" top: "n1" top: "n2" }
layers { name: "dist" type: EUCLIDEAN_LOSS bottom: "n1" bottom: "n2" top: "dist" }
layers { name: "quiet" type: SILENCE bottom: "am" }
"""

# As nets of 2013: everything in one message, padding as a layer of its own.
V0 = """
name: "imagenet"
input: "data"
input_dim: 2 input_dim: 3 input_dim: 61 input_dim: 57
force_backward: true
layers {
  layer {
    name: "conv1" type: "conv" num_output: 6 kernelsize: 11 stride: 4
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 0. }
    blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0.
  }
  bottom: "data" top: "conv1"
}
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pad1" type: "padding" pad: 1 } bottom: "conv1" top: "pad1" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "pad1"
  top: "pool1" }
layers {
  layer { name: "norm1" type: "lrn" local_size: 5 alpha: 0.0001 beta: 0.75 }
  bottom: "pool1" top: "norm1"
}
layers { layer { name: "pad2" type: "padding" pad: 2 } bottom: "norm1" top: "pad2" }
layers {
  layer { name: "conv2" type: "conv" num_output: 8 group: 2 kernelsize: 5 biasterm: false }
  bottom: "pad2" top: "conv2"
}
layers { layer { name: "cat" type: "concat" concat_dim: 1 } bottom: "conv2" bottom: "norm1"
  top: "cat" }
layers { layer { name: "fc8" type: "innerproduct" num_output: 9 } bottom: "cat" top: "fc8" }
layers { layer { name: "drop8" type: "dropout" dropout_ratio: 0.4 } bottom: "fc8" top: "fc8" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc8" top: "prob" }
"""
NETS = {"lenet": LENET, "caffenet": CAFFENET, "many": MANY, "v0": V0}
