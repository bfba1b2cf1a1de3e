"""Recipes -> consistent solvers."""

from dataclasses import fields, replace

import pytest

from resnet_proto import schema
from resnet_proto.errors import ResNetProtoError
from resnet_proto.generate import launch_files
from resnet_proto.presets import PRESETS
from resnet_proto.recipe import RECIPES, Training
from resnet_proto.settings import changed, read_toml, to_toml
from resnet_proto.text_format import parse
from resnet_proto.training.solver import solvers

MPI = {"launcher": "mpirun", "solver_mode": "CPU"}


def read(training, file="solver.prototxt"):
    """A solver as Caffe's text parser reads it."""
    return parse(launch_files("The Net", training)[file], "SolverParameter")


def test_the_papers_recipe_for_imagenet():
    """Section 3.4: batch 256, 0.1 divided by 10, momentum 0.9, decay 1e-4."""
    solver = read(RECIPES["imagenet"].training)

    assert solver == {
        "net": "train_val.prototxt",
        "test_iter": (1000,),
        "test_interval": 5005,
        "test_initialization": False,
        "base_lr": pytest.approx(0.1),
        "lr_policy": "multistep",
        "gamma": pytest.approx(0.1),
        "stepvalue": (150_137, 300_274),
        "max_iter": 450_410,
        "momentum": pytest.approx(0.9),
        "weight_decay": pytest.approx(1e-4),
        "display": 20,
        "snapshot": 5005,
        "snapshot_prefix": "the_net",
        "solver_mode": "GPU",
    }


def test_the_papers_recipe_for_cifar():
    """Section 4.2: 128 images, divided at 32k and 48k iterations, ended at 64k."""
    solver = read(RECIPES["cifar"].training)

    assert (solver["stepvalue"], solver["max_iter"]) == ((32_000, 48_000), 64_000)
    assert solver["test_iter"] == (100,)


def test_warm_up_of_stock_caffe_is_a_solver_of_its_own():
    """Section 4.2: 0.01 for about 400 iterations; the second solver resumes a snapshot."""
    training = RECIPES["cifar-warm-up"].training
    first, second = read(training, "solver_warmup.prototxt"), read(training)

    assert (first["base_lr"], first["lr_policy"]) == (pytest.approx(0.01), "fixed")
    assert first["max_iter"] == first["snapshot"] == 400
    assert (second["base_lr"], second["max_iter"]) == (pytest.approx(0.1), 64_000)
    assert first["snapshot_prefix"] == second["snapshot_prefix"]
    script = launch_files("The Net", training)["train.sh"]
    assert script.index("go_on solver_warmup") < script.index("go_on solver\n")
    assert "solver_warmup" not in launch_files("x", RECIPES["cifar"].training)["train.sh"]


@pytest.mark.parametrize(
    ("values", "batch", "max_iter", "test"),
    [
        ({"batch": 32, "gpus": 1}, 32, 3000, (10, 40)),
        ({"batch": 8, "gpus": 2, "iter_size": 2}, 32, 3000, (10, 40)),
        ({"batch": 16, "nodes": 3, "gpus": 2, **MPI}, 96, 1000, (10, 40)),
        ({"batch": 33, "gpus": 1, "test_batch": 64}, 33, 2909, (8, 50)),
        ({"batch": 32, "gpus": 1, "test_images": 397}, 32, 3000, (10, 40)),  # a prime
        ({"batch": 32, "gpus": 1, "data": "dummy"}, 32, 3000, (13, 32)),  # one layer for both
    ],
)
def test_iterations_come_from_images_and_batch(values, batch, max_iter, test):
    given = {"train_images": 1600, "test_images": 400, "test_batch": 40, "epochs": 60.0,
             "drops": (30.0,)}  # fmt: skip
    training = Training(**{**given, **values})

    assert training.effective_batch == batch
    assert training.max_iter == max_iter == read(training)["max_iter"]
    assert (training.test_iter, training.even_test_batch) == test
    assert training.test_iter * training.even_test_batch >= training.test_images
    assert read(training).get("iter_size", 1) == training.iter_size


@pytest.mark.parametrize(
    ("max_iter", "values", "display"),
    [
        (100, {}, 20),
        (18, {}, 4),
        (3, {}, 1),
        (18, {"display": 20}, 20),
        (18, {"display": 0}, 0),
    ],
)
def test_a_short_training_has_a_curve(max_iter, values, display):
    """Caffe says the loss each ``display`` iterations, and not at all for 0: solver.cpp, Step."""
    few = {"batch": 8, "gpus": 1, "train_images": 8, "policy": "fixed", "epochs": float(max_iter)}

    assert read(Training(**few, **values))["display"] == display
    if max_iter > 12:
        warm = Training(**few, **values, warm_up_lr=0.01, warm_up_iterations=12)
        assert read(warm, "solver_warmup.prototxt")["display"] == values.get("display", 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"policy": "poly", "power": 2.0}, {"lr_policy": "poly", "power": 2.0}),
        ({"policy": "step", "drops": (30.0,)}, {"lr_policy": "step", "stepsize": 150_137}),
        ({"policy": "fixed"}, {"lr_policy": "fixed"}),
        ({"nesterov": True}, {"type": "Nesterov"}),
        ({"solver_mode": "CPU", "gpus": 1}, {"solver_mode": "CPU"}),
        ({"snapshot_epochs": 0.0}, {"snapshot": 0}),
    ],
)
def test_policies_and_more(values, expected):
    solver = read(Training(**values))

    assert {key: solver[key] for key in expected} == expected


def test_each_number_of_the_recipe_says_where_it_is_from():
    text = launch_files("x", RECIPES["imagenet"].training)["solver.prototxt"]

    for field in ("base_lr", "gamma", "max_iter", "momentum", "weight_decay"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{field}:")]
        assert "arXiv 1512.03385" in line or "fb.resnet.torch" in line
    changed = replace(RECIPES["imagenet"].training, base_lr=0.2)
    assert "base_lr: 0.2\n" in launch_files("x", changed)["solver.prototxt"]


def test_another_batch_than_the_recipes_is_said():
    training = replace(RECIPES["imagenet"].training, gpus=4)

    text = launch_files("x", training)["solver.prototxt"]

    said = "# the recipe's base_lr is 0.1 for a batch of 256: 0.05 would be in proportion"
    assert said in text
    assert said not in launch_files("x", replace(training, base_lr=0.05))["solver.prototxt"]
    assert "would be" not in launch_files("x", RECIPES["imagenet"].training)["solver.prototxt"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_name_and_its_sources(name):
    recipe = RECIPES[name]

    assert recipe.training.recipe == name
    known = {*vars(recipe.training), "effective_batch"}
    assert recipe.sources.keys() <= known
    assert changed(Training(), read_toml(to_toml(recipe.training), "x"), "x") == recipe.training


def test_presets_have_their_recipes():
    recipes = {name: preset.spec.training.recipe for name, preset in PRESETS.items()}

    assert {recipes[name] for name in recipes if not name.startswith("cifar")} == {"imagenet"}
    assert recipes["cifar-resnet-56"] == "cifar"
    assert recipes["cifar-resnet-110"] == recipes["cifar-resnet-1202"] == "cifar-warm-up"
    assert recipes["cifar-preact-resnet-164"] == "cifar-pre-activation"
    assert recipes["cifar-wide-resnet-28-10"] == "cifar-wide"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warm_up_lr": 0.01}, "warm_up_lr is 0.01, warm_up_iterations 0; give both"),
        ({"drops": ()}, "policy multistep needs drops"),
        ({"drops": (60.0, 30.0)}, "they rise"),
        ({"drops": (0.0, 30.0)}, "drops are 0,30; they rise"),
        ({"drops": (float("nan"),)}, r"drops is \[nan\]; expected 0 to 1000000 "),
        ({"drops": (float("inf"),), "policy": "step"}, r"drops is \[inf\]; expected 0 to"),
        ({"train_source": ""}, "train_source is empty; data lmdb is read from a file"),
        ({"test_source": "", "data": "hdf5"}, "test_source is empty; data hdf5"),
        (
            {"root_folder": "photos"},
            "root_folder is photos; it goes before each path as it is: end",
        ),
        ({"scale": 0}, "scale is 0; expected a number but 0"),
        ({"mean": (float("inf"),)}, "mean is inf; expected grey levels"),
        ({"drops": (90.0,)}, "set drops that drop the learning rate before the end, or"),
        ({"epochs": 1e6, "train_images": 2**31 - 1, "drops": (1.0,)}, "Caffe counts to"),
        ({"mean": (1.0,) * 5}, "mean has 5 values"),
        ({"batch": 0}, "batch is 0; expected 1 to"),
        ({"data": "zip"}, 'data is "zip"; expected "lmdb"'),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"base_lr": 0}, "base_lr is 0, so nothing is learned"),
        (
            {"warm_up_lr": 0.01, "warm_up_iterations": 900, "train_images": 1000},
            "warm_up_iterations is 900, and the whole training has 352; shorten",
        ),
        ({"test_epochs": 0}, "test_epochs is 0; expected 1e-06"),
        ({"momentum": 1}, "momentum is 1; expected 0 to 0.9999"),
    ],
)
def test_refused(values, message):
    Training()

    with pytest.raises(ResNetProtoError, match=message):
        Training(**values)


def test_a_name_becomes_the_name_of_files():
    assert solvers(Training(), "p").keys() == {"solver.prototxt"}
    assert read(Training())["snapshot_prefix"] == "the_net"


def test_caffes_words_are_answered_with_ours():
    """Each stands in a message of Caffe's, and is none of ours; ours is a field."""
    own = {field.name for field in fields(Training)}
    caffes = {*schema.fields("SolverParameter"), *schema.fields("DataParameter")}
    caffes |= schema.fields("TransformationParameter").keys()

    assert Training.MEANT.keys() - caffes == {"lr"}
    assert not Training.MEANT.keys() & own
    assert set(Training.MEANT.values()) <= own
    with pytest.raises(ResNetProtoError, match=r"no field 'max_iter'; did you mean epochs\?"):
        changed(Training(), {"max_iter": 3}, "x")


def test_nothing_is_read_where_data_is_none():
    assert Training(data="dummy", train_source="", test_source="").reads == ()
