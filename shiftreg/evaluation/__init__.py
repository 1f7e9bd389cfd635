"""Judges pictures: perceptual distance, classifier accuracy, watermark decoding.

Pictures are uint8 arrays of shape (N, H, W, 3), RGB.
"""
