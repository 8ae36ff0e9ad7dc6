"""Links between replicas: frames, introductions, encryption, sockets."""
