"""Transfer of mappings to other layers and accelerators, and the distances between layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.best_known import all_best_known, best_known
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.workload import conv2d, depthwise_conv2d, matmul, mttkrp
from mapgym.warmstart import editing_distance, log_ratio_distance, similarity, transfer, transfer_batch
from mapgym.warmstart.transfer import match_dims, match_tensors

ALL = ("tile", "order", "parallelism", "bypass")
CONV = conv2d("conv", N=2, C=8, M=16, P=7, Q=7, R=3, S=3)
bounds = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 49, 64, 97])


def named(source, target) -> dict[str, str]:
    return {target.dims[d]: source.dims[e] for d, e in enumerate(match_dims(source, target)) if e >= 0}


def test_dims_match_by_name_and_role():
    assert named(CONV, CONV) == {dim: dim for dim in CONV.dims}
    # A matrix product reads its N from Weights and Outputs, as a convolution its M; the largest of N, P and Q is first.
    product = matmul("product", M=64, K=32, N=16, shared_weights=False)
    assert named(CONV, product) == {"M": "P", "K": "C", "N": "M"}
    assert named(product, CONV) == {"P": "M", "C": "K", "M": "N"}


def test_tensors_match_by_name_then_in_order():
    names = [tensor.name for tensor in mttkrp(I=2, J=2, K=2, L=2).tensors]
    matched = match_tensors(mttkrp(I=2, J=2, K=2, L=2), CONV)
    assert names[matched[-1]] == mttkrp(I=2, J=2, K=2, L=2).output.name
    assert match_tensors(CONV, CONV) == [0, 1, 2]


@pytest.mark.parametrize("name", ["accel_a", "accel_b", "accel_b_2d", "simba_like", "eyeriss_like"])
def test_a_mapping_goes_over_to_its_own_layer_unchanged(name):
    space = MapSpace(CONV, catalog.accelerator(name), ALL)
    batch = space.sample(np.random.default_rng(0), 50)
    moved, fits = transfer_batch(batch, CONV, space)
    assert fits.all()
    assert space.canonical(moved) == space.canonical(batch)


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.tuples(*[bounds] * 4),
    kernel=st.sampled_from([1, 3, 5]),
    name=st.sampled_from(["accel_a", "accel_b", "accel_b_2d", "simba_like"]),
    kind=st.sampled_from(["conv", "depthwise", "matmul"]),
    seed=st.integers(0, 1000),
)
def test_transfers_between_random_layers_end_legal(numbers, kernel, name, kind, seed):
    first, second, third, fourth = numbers
    target = {
        "conv": lambda: conv2d("t", N=1, C=first, M=second, P=third, Q=fourth, R=kernel, S=kernel),
        "depthwise": lambda: depthwise_conv2d("t", N=1, C=first, P=third, Q=fourth, R=kernel, S=kernel),
        "matmul": lambda: matmul("t", B=first, M=second, K=third, N=fourth),
    }[kind]()
    source = MapSpace(CONV, catalog.accelerator("accel_b"), ALL)
    accelerator = catalog.accelerator(name if len(catalog.accelerator(name).levels) == 3 else "accel_a")
    space = MapSpace(target, accelerator)
    moved, fits = transfer_batch(source.sample(np.random.default_rng(seed), 5), CONV, space)
    assert fits.all()
    assert space.contains(moved).all()


def test_what_is_inherited_by_hand():
    accelerator = catalog.accelerator("accel_b")
    source = conv2d("source", N=1, C=64, M=64, P=14, Q=14, R=3, S=3)
    space = MapSpace(source, accelerator, ALL)
    mapping = space.base
    dims = {dim: d for d, dim in enumerate(source.dims)}
    mapping.temporal[:] = 1
    mapping.temporal[0, [dims["R"], dims["S"]]] = 3
    mapping.temporal[1, dims["P"]] = mapping.temporal[1, dims["Q"]] = 14
    mapping.temporal[2, dims["M"]] = 4
    mapping.spatial[1, dims["C"]], mapping.spatial[1, dims["M"]] = 16, 16
    mapping.spatial[0, dims["C"]] = 4
    target = conv2d("target", N=1, C=128, M=128, P=14, Q=7, R=3, S=3)
    moved = transfer(mapping, source, MapSpace(target, accelerator, ALL))
    # 16 x 16 elements and their 4 lanes keep working; what the new bounds have more goes to the outermost level.
    assert moved.spatial[1].tolist() == mapping.spatial[1].tolist()
    assert moved.spatial[0].tolist() == mapping.spatial[0].tolist()
    assert dict(moved.temporal_loops(0)) == {"R": 3, "S": 3}
    assert dict(moved.temporal_loops(1)) == {"P": 14, "Q": 7}
    assert dict(moved.temporal_loops(2)) == {"M": 8, "C": 2}


def test_good_mappings_stay_good():
    """The optimum of a layer, transferred to its neighbour in the network, beats four in five random mappings."""
    accelerator = replace(catalog.accelerator("accel_b"), peer_links=False, rules=all_best_known()[0].rules)
    spaces = [MapSpace(catalog.workload(f"resnet50/{name}"), accelerator) for name in ("conv3_3x3", "conv4_3x3")]
    known = best_known(spaces[0], "edp")
    assert known is not None
    moved = transfer(known.to_mapping(spaces[0].workload, accelerator), spaces[0].workload, spaces[1])
    model = CostModel(spaces[1].workload, accelerator)
    random = model.evaluate(spaces[1].sample(np.random.default_rng(0), 200)).edp
    assert model.evaluate(moved).edp < np.quantile(random, 0.2)


def test_other_numbers_of_levels_are_refused():
    mapping = MapSpace(CONV, catalog.accelerator("accel_b")).base
    with pytest.raises(SpecificationError, match="3 storage levels cannot be transferred to the 5 levels"):
        transfer(mapping, CONV, MapSpace(CONV, catalog.accelerator("eyeriss_like")))
    with pytest.raises(SpecificationError, match="not mappings of workload"):
        transfer(mapping, matmul(M=2, K=2, N=2), MapSpace(CONV, catalog.accelerator("accel_b")))


def test_what_cannot_be_transferred_says_why():
    accelerator = catalog.accelerator("accel_b")
    space = MapSpace(CONV, accelerator, constraints={"min_utilization": 0.5})
    tiny = conv2d("tiny", N=1, C=1, M=1, P=1, Q=1, R=1, S=1)
    with pytest.raises(SpecificationError, match="cannot be transferred to 'conv' on 'accel_b': it would use less"):
        transfer(MapSpace(tiny, accelerator).base, tiny, space)


class TestDistances:
    def distances(self, measure, **changes) -> float:
        other = conv2d("other", **({"N": 2, "C": 8, "M": 16, "P": 7, "Q": 7, "R": 3, "S": 3} | changes))
        return float(measure(CONV, other, np.array([other.bounds]))[0])

    def test_editing_counts_dims(self):
        assert self.distances(editing_distance) == 0
        assert self.distances(editing_distance, C=16) == 1
        assert self.distances(editing_distance, C=16, P=14, Q=14) == 3
        assert self.distances(editing_distance, stride=2) == 1

    def test_editing_counts_what_has_no_counterpart(self):
        product = matmul("product", M=7, K=8, N=16)
        # N=2, Q=7, R=3 and S=3 of the convolution have none, and the projections differ.
        assert editing_distance(CONV, product, np.array([product.bounds]))[0] == 5

    def test_ratios_count(self):
        assert self.distances(log_ratio_distance) == 0
        near, far = self.distances(log_ratio_distance, C=16), self.distances(log_ratio_distance, C=64)
        assert 0 < near < far

    def test_by_hand(self):
        # C belongs to Weights (1152 words) and Inputs (2*8*9*9 = 1296), not to Outputs (1568).
        share = (1152 + 1296) / (1152 + 1296 + 1568)
        assert self.distances(log_ratio_distance, C=16) == pytest.approx(share * np.log(2))
        # 7 and 8 are near, but share no divisor: (ln(8/7) + ln 56) / 2.
        share = (1296 + 1568) / (1152 + 1296 + 1568)
        expected = share * (np.log(8 / 7) + np.log(56)) / 2
        assert self.distances(log_ratio_distance, P=8) == pytest.approx(expected)

    def test_many_at_once(self):
        rng = np.random.default_rng(0)
        many = rng.integers(1, 30, (600, 7))
        for measure in (editing_distance, log_ratio_distance):
            together = measure(CONV, CONV, many)
            apart = [measure(CONV, CONV, many[i : i + 1])[0] for i in range(len(many))]
            # To the last digit: which of two equal layers is the nearer must not depend on what else is in a buffer.
            assert np.array_equal(together, apart)

    def test_unknown_names_are_answered(self):
        assert similarity("editing") is editing_distance
        with pytest.raises(SpecificationError, match="did you mean 'log-ratio'"):
            similarity("logratio")
