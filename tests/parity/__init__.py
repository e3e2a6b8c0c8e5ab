"""Our arithmetic against the published implementations' outputs: `python -m tests.parity DIR...`.

A golden is a `.safetensors` file, with a sidecar of the same name in `.json` where the file's own name does not say
everything, or such a `.json` alone. The prefix of its name says what it checks.
"""
