// NodeSignals
