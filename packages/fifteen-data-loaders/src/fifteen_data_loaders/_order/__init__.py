"""Which samples make up which minibatch: the order of an epoch, and the plan that cuts it."""
