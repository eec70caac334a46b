"""Images that a model was unsure of, or whose answer a client disputes, kept for a person to sort and to train on."""
