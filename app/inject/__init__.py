"""Pure: a Pod, the decision, the edited Pod."""
