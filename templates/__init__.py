"""The jinja2 sources of every prototxt; installed as ``resnet_proto.templates``."""
