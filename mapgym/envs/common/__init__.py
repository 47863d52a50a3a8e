"""What all environments share: tasks, observations, rewards, rendering, the two faces that Gymnasium has."""
