"""MoCo-CXR: label-efficient chest X-ray classifiers."""
