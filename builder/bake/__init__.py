"""The models' published files, brought into a folder at build time: downloaded, verified, and listed in manifests.

`wanted` says which files, `sources` where each comes from (`hub` and `addresses` know those places), `arrival` brings
one, `bake` all of them; `ledger` keeps what was found, as do `engine.manifests`. Nothing here needs torch but
`--convert`.
"""
