"""What docs/how-fast.md says around its numbers."""

from __future__ import annotations

LAYERED_MEMORY = """\
`checkpoint=True` runs blocks of about sqrt(steps) steps again in the backward pass. 5-120-3, batch of 150:

{table}

"""
PEERS = """\
## Libraries of exact event-based gradients

5-120-3 with hard thresholds and one spike per neuron, loss and gradient for a batch of 150, on the same weights and
inputs, all in one process ({machine}; `benchmarks/peers.py`). jaxsnn runs EventProp from event to event; its room
for events is fixed, and one that is too small changes loss and gradient without a word. eventax integrates by Euler
with our step. Neither has noise.

{table}

"""
HUGE_PAGES = """\
### Huge pages

On Linux a program gives memory of more than 32 MB back to the system after every call and fetches it anew, page by
page, in the next: here a third of the time of a training step. With

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python train.py

it comes in pages of 2 MB, where the system allows them (`madvise` or `always` in
`/sys/kernel/mm/transparent_hugepage/enabled`). All numbers of this page are without, but for these, which are of
before noisy layers drew their noise on the way:

{table}

"""
RECURRENT = """\
## Recurrent networks

Zero delay, every spike in its order, noise in v and i drawn in the run, float32, {samples} samples (4 of the largest),
{ordered_machine} (`benchmarks/ordered.py`); the first is the network of Fig. 2 of Holberg & Salvi as one recurrent
network. Compiling is of the gradient in the weights.

{ordered}

{training}

With delays of 1.5 ms, 100 synapses per neuron, steps of 0.1 ms, escape rate and noise, one sample, no spike lost,
{delayed_machine} (`benchmarks/delayed.py`). The gradient is that of a loss of all first spikes in all weights and the
delay.

{delayed}

{nest}

"""
TEXT = """\
# How fast, and why

<!-- written by benchmarks/page.py from benchmarks/results/*.json: change those -->

Process CPU time, the least of several repeats after warm-up; what is compared was run in one process. The machine was
shared, so compare within a table, and take no single number to better than a third. Reproduce with
`python benchmarks/<name>.py`.

## One noisy neuron: the workload of Fig. 1

128 samples, 500 steps, float32, {fig1_machine}. roughspike draws its noise inside the measured call and simulates all
spikes, about 21 a sample. The *published algorithm*, written on plain diffrax, restarts the solver at every spike of
the batch with a virtual Brownian tree, and stops after three spikes. The *lean scan* is what a careful user would write
by hand: explicit Euler, one spike a step, biased by 5e-3 in the first spike time where roughspike has some 1e-5. First
calls are wall time{fig1_first}.

{fig1}

At the start of training, where samples spike rarely and the published algorithm has to integrate to the end, the
gradient of the signature loss costs it {early_published:.0f} ms and roughspike {early_ours:.1f} ms: {early_ratio:.0f}
times. At the parameters that generated the data the ratio is {late_ratio:.0f}.

## Many neurons

Nanoseconds per neuron and step, noise included. Many lanes run in blocks of samples, one block after the other: of at
most 1,536 lanes where nothing is differentiated, so that a block stays in the cache and a run of any size needs the
memory of one block; of at most 4,096 where the backward pass keeps something of every lane. That is 300 MB at 28,160
lanes, fresh in every call: a quarter of the time goes to the system that hands them out, and most of it is saved by
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, glibc's huge pages.

{lanes}

## Memory

Temporary memory of the gradient of 128 samples. `simulate(..., checkpoint=True)` keeps the state at about sqrt(steps)
times and runs the steps between them again; its numbers are the same.

{memory}

## Layers: a training step beside one with surrogate gradients

Forward, backward and Adam, float32, against the fastest of four ways of writing the same network with surrogate
gradients, {layered_machine}{wide_load}.
Memory is that of the compiled program. Of 700-256-20, the rows with 2 spikes a step and with checkpoints are of an
earlier run, on a quieter machine.

{layered}

Exact input spikes take two numbers per spike, that is two products with the input weights where rounded ones take one
(three for neurons that spike at a rate).
Where they are few, each is delivered by itself in place of both products: the input layer of 700 channels then costs
less than the surrogate's.

{layered_memory}{peers}{huge_pages}{recurrent}## How cost grows

One quantity is changed at a time, the others stay ({growth_base}).
CPU time of a loss and its gradient in all weights, {growth_machine}{growth_note}. Spikes are, for
layered, those of an input channel, else those of the network in a sample, moved by the input current; synapses those
of one neuron. The exponent is that of a power law through the first and the last row: 1 is proportional.

![Cost of a gradient as one quantity grows](images/growth.svg)

{growth}

## Event SDEs in general

`rs.solve` against a scan by hand on a system without events, and against the restart algorithm on the neuron of Fig. 1
written as an `EventSDE`, 500 steps, {events_machine}.

{events}

## The signature kernel

Gram matrix of 64 by 64 trains of 50 spikes, two neurons, {kernel_machine}.

{kernel}

## Why

- *Noise once, on a grid.* Inside a step the path of the noise is smooth. No Brownian tree is walked, and nothing is
  restarted at a spike.
- *No solver where the flow is known.* Potential and current have an exact flow; the hazard of a step is a quadratic
  through three values, so a spike is the root of a cubic, found without an exponential.
- *All lanes go on.* A spike is handled inside the step of its own lane; no sample waits for another's event.
- *The adjoint is written by hand.* It keeps the potential, the synaptic current and the place of each spike, and runs
  each step once more with its spikes known. It is the exact derivative of what was computed, not of a limit.
- *Few lanes.* Where one neuron in twenty spikes in a step, only those are searched for a root: they are found in words
  of 24 bits, advanced together, and put back.
- *Nothing as long as the run.* A recurrent run that nobody differentiates draws its noise, and writes its spike times
  down, a few steps at a time, in the processor's cache.
- *One kernel per exponential.* A compiled scan on a CPU pays for each kernel it launches. The step is arranged so that
  values with many users are exponentials or quotients, which the compiler computes once, and so that everything else
  melts into them.

## What is not fast

- A first call compiles: seconds, see the tables. A persistent compilation cache of JAX removes it from the second
  process on.
- `parabola` steps cost one more normal; float64 costs two to four times float32.
- Under `vmap` a step that would be skipped because no neuron spikes twice in it is run.
"""
