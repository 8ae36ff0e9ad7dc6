"""Code generated from the proto file; see proto/generate.sh."""
