"""What a study file says: settings, base, search space, sampler and pruner."""
