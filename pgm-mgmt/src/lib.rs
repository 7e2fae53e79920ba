//! pgm's management protocol: frames, typed requests and responses, client.
