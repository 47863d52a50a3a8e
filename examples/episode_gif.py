"""Draws an episode of an environment as a GIF: an agent that picks legal actions at random builds a mapping.

python examples/episode_gif.py docs/images/episode.gif; needs Pillow (the extra "plot").
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
from PIL import Image

import mapgym  # noqa: F401 - registers the environments

COLORS = 32
"""The pictures have fewer."""


def frames(env_id: str, seed: int) -> list[np.ndarray]:
    """The pictures of an episode, uint8[height, width, 3] each."""
    env = gym.make(env_id, render_mode="rgb_array")
    _, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    pictures, is_over = [env.render()], False
    while not is_over:
        action = int(rng.choice(np.flatnonzero(info["action_mask"])))
        _, _, terminated, truncated, info = env.step(action)
        pictures.append(env.render())
        is_over = terminated or truncated
    return pictures


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--env", default="MapSpace-v0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images = [Image.fromarray(picture).quantize(COLORS) for picture in frames(arguments.env, arguments.seed)]
    durations = [400] * (len(images) - 1) + [3000]
    images[0].save(arguments.path, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    main()
