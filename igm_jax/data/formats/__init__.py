"""One module a source of skeletons; `igm_jax.data.formats.sources` says what each has to offer."""
