"""Upload pictures, watch their thumbnails and contact sheet being made."""
