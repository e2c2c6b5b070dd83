"""The engines that `bench_features.py` compares, and the common features that all of them compute."""
