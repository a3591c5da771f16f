"""Readers of data sets, one module for each; `sources` lists them and defines what they hold."""
