"""The models' published files, brought into a folder at build time: downloaded, verified, and listed in manifests.

`wanted` says which files, `sources` where each comes from, `arrival` brings one, `bake` all of them; `manifests` and
`ledger` keep what was found. Nothing here needs torch but `--convert`.
"""
