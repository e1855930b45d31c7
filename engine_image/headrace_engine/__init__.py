"""Headrace's engine: a typed configuration file in front of SGLang's own server, extended through its public seams."""
