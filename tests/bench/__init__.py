"""The benchmark: this project beside Stable-Baselines3, and its own costs. python -m tests.bench"""
