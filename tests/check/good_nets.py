"""Good nets, and how one becomes bad."""

from dataclasses import replace

from resnet_proto.build import deploy_net
from resnet_proto.presets import PRESETS
from resnet_proto.training.train_val import to_train_val


def deploy(name):
    return deploy_net(PRESETS[name].spec)


def train_val(name, **training):
    spec = PRESETS[name].spec
    return to_train_val(deploy_net(spec), replace(spec.training, **training))


def edited(net, chosen, param=None, drop=(), **values):
    """The net with other layers where ``chosen`` says so.

    Args:
        net: any net.
        chosen: the name of a layer, or what tells whether a layer is meant.
        param: fields of the layer's own message to set.
        drop: fields to leave out.
        values: bottoms, tops, fields (joined to what is there).
    """
    layers = []
    for layer in net.layers:
        if layer.name == chosen if isinstance(chosen, str) else chosen(layer):
            fields = {**layer.fields, **values.get("fields", {})}
            own = {k: v for k, v in layer.param.items() if k not in drop} | (param or {})
            fields = {k: v for k, v in fields.items() if k not in (*drop, layer.message)}
            if own:
                fields[layer.message] = own
            layer = replace(layer, **{**values, "fields": fields})
        layers.append(layer)
    return replace(net, layers=tuple(layers))


def without(net, *names):
    return replace(net, layers=tuple(layer for layer in net.layers if layer.name not in names))


def of_type(*types):
    return lambda layer: layer.type in types
