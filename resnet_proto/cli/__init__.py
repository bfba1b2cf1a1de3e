"""The command ``resnet-proto``. Each command's module is imported when it is called."""
