"""A spec -> a net, one short function for each part of the papers' figures."""

from resnet_proto.build.deploy import deploy_net

__all__ = ["deploy_net"]
