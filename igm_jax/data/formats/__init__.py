"""One module a source of skeletons; `igm_jax.data.sources` says what each has to offer."""
