"""A net made ready to train: deploy net <-> train_val net, recipe -> solver, launch script."""
