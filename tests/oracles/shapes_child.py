"""Print the shape of every blob as the real Caffe has it: ``python shapes_child.py NET ...``.

Runs in the Python that can import caffe. A line for each net: JSON, blob name -> shape. Nothing
is computed. Caffe ends the process at the first net that it refuses.
"""

import json
import os
import sys

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe

for path in sys.argv[1:]:
    net = caffe.Net(path, caffe.TEST)
    tops = {
        net._blob_names[blob]
        for i, layer in enumerate(net.layers)
        if layer.type != "Split"  # Caffe's own
        for blob in net._top_ids(i)
    }
    print(json.dumps({name: list(net.blobs[name].shape) for name in tops}), flush=True)
    del net
