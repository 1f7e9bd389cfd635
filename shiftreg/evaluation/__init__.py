"""Measures images: perceptual distance, classifier accuracy, watermark decoding.

Images are uint8 arrays of shape (N, H, W, 3), RGB.
"""
