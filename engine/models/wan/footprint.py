"""How much memory one pass of a transformer takes beyond its weights, by arithmetic alone. No torch in here."""

CHUNK_TOKENS = 8192  # that go through a layer at a time: enough to keep a large GPU busy
CHUNK_TOKENS_CPU = 1024  # whose activations a processor's cache nearly holds
