"""The engines that FedLoupe's feature engine is compared with, one process each."""
