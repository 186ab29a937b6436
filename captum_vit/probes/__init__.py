"""Where neurons are: adapters, sites, probes on the forward path, and how a neuron is named."""
