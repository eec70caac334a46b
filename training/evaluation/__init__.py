"""What a model is worth: accuracy, calibration, confidence, comparison."""
