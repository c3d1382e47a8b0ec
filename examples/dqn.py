"""Deep Q-learning of CartPole: single steps from the caller's own gradient, and a target network.

    python examples/dqn.py                   # trains for some seconds and prints the returns of the episodes
    python examples/dqn.py --compare torch   # steps a second of the same agent in fastmlp and PyTorch

The environment is that of Barto, Sutton and Anderson (1983), with the numbers of Gymnasium's CartPole-v1: a pole on a
cart falls over unless the cart is pushed to the left or to the right. Each step that the pole stands has the reward 1,
and an episode ends after 500 steps. The agent is that of Mnih et al. (2015), with double Q-learning (van Hasselt et
al., 2016) and a target network that follows by a small share of the weights after each update.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import fastmlp as fm

BATCH, GAMMA, TAU, RATE, HIDDEN, REMEMBERED = 64, 0.99, 0.01, 1e-3, (64, 64), 50_000


class CartPole:
    """Cart with a pole; the state is (position, speed, angle, angular speed)."""

    gravity, mass, pole_mass, half_length, force, seconds = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    farthest, steepest, most_steps = 2.4, math.radians(12), 500

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def reset(self) -> np.ndarray:
        """Begin an episode and return its first state."""
        self._state = self._rng.uniform(-0.05, 0.05, 4)
        self._steps = 0
        return self._state.astype(np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """Push to the left (0) or right (1); return (state, reward, whether the pole fell, whether time is up)."""
        x, speed, angle, turn = self._state.tolist()
        force = self.force if action else -self.force
        sine, cosine, total = math.sin(angle), math.cos(angle), self.mass + self.pole_mass
        push = (force + self.pole_mass * self.half_length * turn**2 * sine) / total
        turning = (self.gravity * sine - cosine * push) / (
            self.half_length * (4 / 3 - self.pole_mass * cosine**2 / total)
        )
        pull = push - self.pole_mass * self.half_length * turning * cosine / total
        dt = self.seconds
        self._state = np.array([x + dt * speed, speed + dt * pull, angle + dt * turn, turn + dt * turning])
        self._steps += 1
        fell = abs(self._state[0]) > self.farthest or abs(self._state[2]) > self.steepest
        return self._state.astype(np.float32), 1.0, bool(fell), self._steps >= self.most_steps


class Memory:
    """The last transitions (state, action, reward, next state, whether the episode goes on)."""

    def __init__(self, size: int) -> None:
        self.states, self.after = np.zeros((2, size, 4), np.float32)
        self.actions, self.rewards = np.zeros(size, np.int64), np.zeros(size, np.float32)
        self.goes_on = np.zeros(size, np.float32)
        self.count = 0

    def add(self, state: np.ndarray, action: int, reward: float, after: np.ndarray, fell: bool) -> None:
        """Store a transition; a full memory overwrites the oldest one."""
        at = self.count % len(self.actions)
        self.states[at], self.actions[at], self.rewards[at], self.after[at] = state, action, reward, after
        self.goes_on[at] = not fell
        self.count += 1

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, ...]:
        """Return random transitions, array by array."""
        at = rng.integers(0, min(self.count, len(self.actions)), rows)
        return self.states[at], self.actions[at], self.rewards[at], self.after[at], self.goes_on[at]


class Agent:
    """Q-network in fastmlp."""

    def __init__(self, seed: int) -> None:
        model = fm.MLP(4, HIDDEN, 2, rng=seed)
        # The gradient is that of the loss below, so that the loss of the trainer is not used.
        trainer = fm.Trainer(model, fm.HuberLoss(), fm.Adam(RATE))
        self.stepper = trainer.stepper(BATCH, check=False)
        self.target = self.stepper.target_network()
        self._rows = np.arange(BATCH)

    def values(self, states: np.ndarray) -> np.ndarray:
        """Return Q (N, 2)."""
        return self.stepper.infer(states)

    def learn(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        after: np.ndarray,
        goes_on: np.ndarray,
    ) -> None:
        """Make an update on the Huber loss of the chosen actions, and move the target network."""
        best = self.stepper.infer(after).argmax(axis=1)
        aim = rewards + GAMMA * goes_on * self.target(after)[self._rows, best]
        q = self.stepper.forward(states)
        gradient = np.zeros_like(q)
        gradient[self._rows, actions] = np.clip(q[self._rows, actions] - aim, -1, 1) / BATCH
        self.stepper.backward(gradient)
        self.target.update(TAU)


def torch_agent(seed: int):
    """Return the same agent in PyTorch, with the functions `values` and `learn`."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # more threads are slower for such a net
    widths = (4, *HIDDEN, 2)

    def made() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    class TorchAgent:
        def __init__(self) -> None:
            self.net, self.target = made(), made()
            self.target.load_state_dict(self.net.state_dict())
            self.optimizer = torch.optim.Adam(self.net.parameters(), RATE)
            self._rows, self._loss = torch.arange(BATCH), nn.HuberLoss()
            self._pairs = list(self.target.parameters()), list(self.net.parameters())

        def values(self, states):
            with torch.inference_mode():
                return self.net(torch.from_numpy(states)).numpy()

        def learn(self, *batch) -> None:
            states, actions, rewards, after, goes_on = map(torch.from_numpy, batch)
            with torch.no_grad():
                best = self.net(after).argmax(1)
                aim = rewards + GAMMA * goes_on * self.target(after)[self._rows, best]
            loss = self._loss(self.net(states)[self._rows, actions], aim)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(*self._pairs, TAU)

    return TorchAgent()


def train(agent, steps: int, seed: int, report: int = 0) -> tuple[list[float], float]:
    """Let an agent play and learn; return the returns of the episodes, and the seconds.

    Parameters
    ----------
    agent
        Has the methods `values` and `learn`, see `Agent`.
    steps : int
        Steps in the environment; each one from the 1000th on is followed by an update.
    seed : int
        Seed of the environment and of all choices.
    report : int
        Steps from one printed line to the next, 0 for none.
    """
    rng = np.random.default_rng(seed)
    environment, memory = CartPole(rng), Memory(REMEMBERED)
    returns, total, state = [], 0.0, environment.reset()
    began = time.perf_counter()
    for step in range(steps):
        explores = rng.random() < max(0.02, 1 - step / (0.3 * steps))
        action = int(rng.integers(2)) if explores else int(agent.values(state[None])[0].argmax())
        after, reward, fell, out_of_time = environment.step(action)
        memory.add(state, action, reward, after, fell)
        total, state = total + reward, after
        if fell or out_of_time:
            returns.append(total)
            total, state = 0.0, environment.reset()
        if step >= min(1000, steps // 2):
            agent.learn(*memory.draw(rng, BATCH))
        if report and (step + 1) % report == 0:
            recent = np.mean(returns[-20:]) if returns else 0.0
            rate = (step + 1) / (time.perf_counter() - began)
            print(f"step {step + 1:6}: return {recent:5.1f} (mean of 20 episodes), {rate:6.0f} steps/s", flush=True)
    return returns, time.perf_counter() - began


def play(policy: fm.Predictor, seed: int) -> float:
    """Return the steps of an episode whose actions are those of the largest outputs of a frozen network."""
    environment = CartPole(np.random.default_rng(seed))
    state, total, over = environment.reset(), 0.0, False
    while not over:
        state, reward, fell, out_of_time = environment.step(int(policy(state).argmax()))
        total, over = total + reward, fell or out_of_time
    return total


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps in the environment (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", choices=["torch"], help="measure this library too")
    args = parser.parse_args()
    train(Agent(args.seed), 500, args.seed)  # loads or compiles the kernels
    if args.compare:
        made = {"fastmlp": Agent, args.compare: torch_agent}
        rates: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(3):  # in turn, so that a change of the machine's speed meets both
            for name, make in made.items():
                steps = max(1, args.steps // 10)
                rates[name].append(steps / train(make(args.seed), steps, args.seed)[1])
        for name, found in rates.items():
            print(f"{name:8} {np.median(found):6.0f} steps/s")
        return
    agent = Agent(args.seed)
    returns, seconds = train(agent, args.steps, args.seed, max(1, args.steps // 10))
    print(f"{len(returns)} episodes in {seconds:.0f} s; the last 10 lasted {np.mean(returns[-10:]):.0f} steps")
    policy = fm.Predictor(agent.stepper.trainer.model)  # a copy for a service, which needs no trainer
    print(f"episodes played by the policy: {', '.join(f'{play(policy, seed):.0f}' for seed in range(5))} steps")


if __name__ == "__main__":
    main()
