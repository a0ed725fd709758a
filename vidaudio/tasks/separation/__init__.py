"""Text-queried separation: CLIPSep and its variants, their data, training step, evaluation."""
