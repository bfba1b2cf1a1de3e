"""Runs models in a Python of its own: ``onnx_child.py opencv|mnn|ncnn|nncase FOLDER ...``.

A folder has ``model.onnx``, or for MNN and nncase ``model.caffemodel`` and its prototxt;
``output.txt`` with the name of the output that is wanted, and ``inputs.npz``, whose arrays are
named after the inputs. It gets ``answer.npy``, or ``error.txt``.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

WINOGRAD_MEMORY_LEVEL = 3
"""Of MNN's HintMode. Winograd's rounding is a hundred times that of a plain convolution."""

MNNCONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""What its script `mnnconvert` runs; the script also installs a package with whatever pip it finds,
and sends a record of each conversion to its makers, for which it may wait."""


def opencv(model, inputs, output):
    """What OpenCV's DNN makes of a model."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(model))
    net.enableWinograd(False)
    for name, value in inputs.items():
        net.setInput(value, name)
    return net.forward(output)


def mnn(model, inputs, output):
    """What MNN makes of a model, after its own converter."""
    import MNN

    converted = model.with_suffix(".mnn")
    caffe = ["-f", "CAFFE", "--prototxt", str(model.with_suffix(".prototxt"))]
    command = [
        sys.executable, "-c", MNNCONVERT,
        *(caffe if model.suffix == ".caffemodel" else ["-f", "ONNX"]),
        "--modelFile", str(model), "--MNNModel", str(converted),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not converted.exists():
        raise RuntimeError((done.stdout + done.stderr)[-300:])
    config = {"backend": "CPU", "precision": "high", "numThread": 1}
    runtime = MNN.nn.create_runtime_manager((config,))
    runtime.set_hint(WINOGRAD_MEMORY_LEVEL, 0)
    net = MNN.nn.load_module_from_file(
        str(converted), list(inputs), [output], runtime_manager=runtime
    )
    nchw = MNN.expr.NCHW
    feeds = [MNN.expr.const(value, list(value.shape), nchw) for value in inputs.values()]
    (answer,) = net.forward(feeds)
    kept = MNN.expr.convert(answer, nchw)  # whose memory goes with it
    return np.array(kept.read())


def ncnn(model, inputs, output):
    """What ncnn makes of a model, after pnnx; it names blobs anew, and takes an image at a time."""
    import ncnn

    ((_, images),) = inputs.items()
    # the program itself: the package's own script imports torch, which nothing here needs
    pnnx = Path(ncnn.__file__).parents[1] / "pnnx" / "pnnx"
    shape = ",".join(map(str, images.shape))
    command = [str(pnnx), str(model), f"inputshape=[{shape}]f32", "fp16=0"]
    done = subprocess.run(command, cwd=model.parent, capture_output=True, text=True, check=False)
    param, values = (model.with_suffix(f".ncnn.{suffix}") for suffix in ("param", "bin"))
    if not (param.exists() and values.exists()):
        raise RuntimeError((done.stdout + done.stderr)[-300:])
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = net.opt.use_winograd_convolution = False
    for kind in ("packed", "storage", "arithmetic"):
        setattr(net.opt, f"use_fp16_{kind}", False)
    net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(values)):
        raise RuntimeError(f"ncnn does not load what pnnx made: {param.read_text()[:300]}")
    answers = []
    for image in images:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image).clone())
        status, answer = extractor.extract("out0")
        if status:
            raise RuntimeError(f"ncnn ends with {status}")
        answers.append(np.array(answer))
    return np.stack(answers)


def nncase(model, inputs, _):
    """What the only output is on nncase's simulated CPU."""
    import nncase as chain

    options = chain.CompileOptions()
    options.target = "cpu"
    compiler = chain.Compiler(options)
    compiler.import_caffe(model.read_bytes(), model.with_suffix(".prototxt").read_bytes())
    compiler.compile()
    simulator = chain.Simulator()
    simulator.load_model(compiler.gencode_tobytes())
    for i, value in enumerate(inputs.values()):
        simulator.set_input_tensor(i, chain.RuntimeTensor.from_numpy(value))
    simulator.run()
    return simulator.get_output_tensor(0).to_numpy()


if __name__ == "__main__":
    run = {"opencv": opencv, "mnn": mnn, "ncnn": ncnn, "nncase": nncase}[sys.argv[1]]
    for folder in map(Path, sys.argv[2:]):
        with np.load(folder / "inputs.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        try:
            output = (folder / "output.txt").read_text()
            (model,) = (*folder.glob("model.onnx"), *folder.glob("model.caffemodel"))
            np.save(folder / "answer.npy", run(model, arrays, output))
        except Exception as error:
            (folder / "error.txt").write_text(str(error))
