"""Small trainable parts beside frozen weights."""
