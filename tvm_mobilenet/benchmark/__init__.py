"""How ``bench`` measures: the cases, the engines side by side, the rounds, the sweep."""
