"""What the libraries on a CUDA device share: streams, the driver, deferred release, staging and copies to the host."""
