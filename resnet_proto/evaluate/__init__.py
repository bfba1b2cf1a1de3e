"""Judge a net: what it says of images, and how often that is right."""
