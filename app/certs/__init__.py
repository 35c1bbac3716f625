"""Identity → certificate: keys, signing, issuing, renewal."""
