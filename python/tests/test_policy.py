"""What the class takes, gives and refuses."""

import math
import pathlib
import re
import shutil
import warnings
import zlib

import numpy as np
import pytest

import dt_policy
from dt_policy import FaultWarning, Policy

README = pathlib.Path(__file__).parents[1] / "README.md"
UPRIGHT = [1.0, 0.0, 0.5]


@pytest.fixture
def file(policies):
    return policies / "pendulum.dtb"


@pytest.fixture
def policy(file):
    policy = Policy(file)
    policy.reset()
    return policy


def episode(policy, observations, reward=-1.0):
    policy.reset()
    actions = []
    for observation in observations:
        actions.append(policy.act(observation))
        policy.absorb(reward)
    return np.stack(actions)


def observations(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, 3)).astype(np.float32)


def test_a_policy_says_what_it_is(file):
    policy = Policy(str(file))
    assert (policy.env, policy.state_dim, policy.act_dim) == ("pendulum", 3, 1)
    assert (policy.dtype, policy.attention, policy.context_len) == ("int8", "streaming", 5)
    assert (policy.reward_mode, policy.target_return, policy.period) == ("observed", 40.0, 0.05)
    assert policy.action_low.tolist() == [-2] and policy.action_high.tolist() == [2]
    assert policy.state_low.tolist() == [-1, -1, -8] and policy.state_high.tolist() == [1, 1, 8]
    assert policy.safe_action.tolist() == [0] and policy.safe_action.dtype == np.float32
    assert policy.crc == int.from_bytes(file.read_bytes()[12:16], "little")
    assert policy.path == file and policy.fault is None
    assert "pendulum, 3 observed, 1 actuated, int8, streaming with K = 5" in repr(policy)


def test_a_perceptron_says_what_it_is(policies):
    policy = Policy(policies / "perceptron.dtb")
    assert (policy.attention, policy.context_len) == ("none", 5)
    assert "int8, a perceptron with K = 5" in repr(policy)
    assert Policy(policies / "state_first.dtb").reward_mode == "predicted"


def test_every_kind_of_vector_is_the_same_observation(policy):
    exact = np.array(UPRIGHT, np.float32)
    strided = np.zeros(6, np.float32)
    strided[::2] = exact
    kinds = [exact, exact.astype(np.float64), exact.astype(">f4"), exact.astype(np.float16), UPRIGHT, tuple(UPRIGHT), strided[::2]]
    actions = {episode(policy, [observation]).tobytes() for observation in kinds}
    assert len(actions) == 1
    assert episode(policy, [[1, 0, 1]]) == episode(policy, [np.array([1, 0, 1])])
    assert episode(policy, [[1.0, 0.0, 0.4]]) != episode(policy, [exact])


def test_f64_is_rounded_to_f32(policy):
    above = np.nextafter(np.float64(0.5), 1)
    assert episode(policy, [np.array([1.0, 0.0, above])]) == episode(policy, [UPRIGHT])


def test_actions_are_arrays_of_their_own(policy):
    first = policy.act(UPRIGHT)
    assert first.dtype == np.float32 and first.shape == (1,)
    kept = first.copy()
    first[:] = math.nan
    policy.absorb(0.0)
    assert policy.act(UPRIGHT).base is None and math.isnan(first[0])
    assert np.isfinite(kept).all()


def test_several_policies_do_not_disturb_each_other(policies):
    names = ["pendulum", "window", "int4", "pendulum"]
    shown = observations(30)
    alone = [episode(Policy(policies / f"{name}.dtb"), shown) for name in names]
    together = [Policy(policies / f"{name}.dtb") for name in names]
    for policy in together:
        policy.reset()
    for step, observation in enumerate(shown):
        for policy, expected in zip(together, alone):
            assert policy.act(observation).tobytes() == expected[step].tobytes()
            policy.absorb(-1.0)
    assert alone[0].tobytes() == alone[3].tobytes() != alone[1].tobytes()


def test_reset_forgets(policy):
    shown = observations(20)
    first = episode(policy, shown)
    assert policy.timestep == 20
    assert episode(policy, shown).tobytes() == first.tobytes()
    policy.reset(1e4)
    assert policy.timestep == 0 and policy.return_to_go == 1e4
    assert policy.act(shown[0]).tobytes() != first[0].tobytes()


def test_rewards_are_subtracted(policy):
    policy.reset(10)
    policy.act(UPRIGHT)
    policy.absorb(-2.5)
    assert policy.return_to_go == 12.5


def test_a_constant_policy_needs_no_reward(policies):
    policy = Policy(policies / "constant.dtb")
    shown = observations(10)
    assert episode(policy, shown, None).tobytes() == episode(policy, shown, 7.0).tobytes()
    assert policy.return_to_go == policy.target_return


def test_an_external_policy_lets_the_return_be_set(policies):
    policy = Policy(policies / "external.dtb")
    shown = observations(10)
    counted = episode(policy, shown, -3.0)
    policy.reset()
    for step, observation in enumerate(shown):
        policy.return_to_go = policy.target_return + 3.0 * step
        assert policy.act(observation).tobytes() == counted[step].tobytes()
        policy.absorb()


def test_what_was_applied_matters(policy):
    shown = observations(4)
    as_commanded = episode(policy, shown)

    def second(applied):
        policy.reset()
        policy.act(shown[0])
        policy.absorb(-1.0, applied=applied)
        return policy.act(shown[1]).tobytes()

    assert second(as_commanded[0]) == second(None) == as_commanded[1].tobytes()
    assert second([-as_commanded[0, 0]]) != as_commanded[1].tobytes()


@pytest.mark.parametrize(
    ("observation", "error", "text"),
    [
        ([1.0, 0.0], ValueError, r"the observation has shape \(2,\); .*pendulum.dtb takes \(3,\)$"),
        (np.zeros((1, 3)), ValueError, r"has shape \(1, 3\); .* takes \(3,\); a Policy is for one robot: give each row"),
        (1.0, ValueError, r"has shape \(\)"),
        ({"observation": UPRIGHT}, TypeError, r"dictionary; .*numpy.concatenate\(\[observation\[key\] for key in keys\]\)"),
        ("upright", TypeError, "the observation is <class 'str'>, which NumPy does not take .*could not convert"),
        ([[1.0], [0.0, 1.0]], TypeError, "inhomogeneous"),
    ],
)
def test_what_is_no_observation_is_refused_and_changes_nothing(policy, observation, error, text):
    with pytest.raises(error, match=text):
        policy.act(observation)
    assert policy.fault is None
    assert policy.act(UPRIGHT) == episode(policy, [UPRIGHT])


def test_calls_out_of_order_are_refused_and_change_nothing(file):
    policy = Policy(file)
    expected = episode(Policy(file), [UPRIGHT, UPRIGHT])

    def refused(text, call, *arguments):
        with pytest.raises(RuntimeError, match=re.escape(text)):
            call(*arguments)

    refused("reset() comes before the first act()", policy.act, UPRIGHT)
    refused("reset() comes first", policy.absorb, 1.0)
    policy.reset()
    refused("act() comes before each absorb()", policy.absorb, 1.0)
    assert policy.act(UPRIGHT) == expected[0]
    refused("absorb(reward) of the last action comes before the next act()", policy.act, UPRIGHT)
    policy.absorb(-1.0)
    refused("act() comes before each absorb()", policy.absorb, 1.0)
    assert policy.act(UPRIGHT) == expected[1]
    policy.self_test()
    refused("reset() comes before the first act()", policy.act, UPRIGHT)


def test_bad_rewards_and_actions_are_refused_and_change_nothing(policy):
    expected = episode(policy, [UPRIGHT, UPRIGHT])
    policy.reset()
    policy.act(UPRIGHT)
    bad = [
        (dict(), r"absorb\(reward\)"),
        (dict(reward=math.nan), "the reward is NaN or infinite"),
        (dict(reward=1e300), "the reward is NaN or infinite"),
        (dict(reward=-1.0, applied=[1.0, 2.0]), r"the action has shape \(2,\)"),
        (dict(reward=-1.0, applied=[math.nan]), "component 0 of the applied action is NaN"),
    ]
    for arguments, text in bad:
        with pytest.raises(ValueError, match=text):
            policy.absorb(**arguments)
    policy.absorb(-1.0)
    assert policy.act(UPRIGHT) == expected[1]


@pytest.mark.parametrize("target", [math.nan, math.inf, 1e300])
def test_targets_that_are_not_finite_are_refused(file, target):
    policy = Policy(file)
    with pytest.raises(ValueError, match="pendulum.dtb: the target return, return-to-go or reward is NaN or infinite"):
        policy.reset(target)
    with pytest.raises(RuntimeError, match="has not been reset"):
        policy.return_to_go = 1.0
    expected = episode(policy, [UPRIGHT, UPRIGHT])
    policy.reset()
    policy.act(UPRIGHT)
    policy.absorb(-1.0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        policy.return_to_go = target
    with pytest.raises(ValueError, match="NaN or infinite"):
        policy.reset(target)
    # The episode goes on.
    assert policy.fault is None
    assert policy.act(UPRIGHT) == expected[1]


def test_a_sum_of_rewards_that_overflows_asks_for_a_reset(policy):
    policy.act(UPRIGHT)
    policy.return_to_go = 3e38
    with pytest.raises(ValueError, match="NaN or infinite"):
        policy.absorb(-3e38)
    with pytest.raises(RuntimeError, match="reset"):
        policy.act(UPRIGHT)


NO_PIXEL = ", or of an image no whole number from 0 to 255"


@pytest.mark.parametrize(
    ("observation", "fault", "warned"),
    [
        ([0.0, 0.0, 8.5], "component 2 of the observation is out of range", r"\(8.5 is not in -8..8\)"),
        ([0.0, -1.5, 0.0], "component 1 of the observation is out of range", r"; Policy\(path, guard=False\) acts on"),
        ([math.nan, 0.0, 0.0], "component 0 of the observation is NaN or infinite" + NO_PIXEL, r"the safe action until reset\(\)$"),
        (np.array([0.0, 1e300, 0.0]), "component 1 of the observation is NaN or infinite" + NO_PIXEL, r"until reset\(\)$"),
    ],
)
def test_the_guard_latches_the_safe_action(policy, observation, fault, warned):
    unharmed = policy.act(UPRIGHT)
    policy.absorb(-1.0)
    with pytest.warns(FaultWarning, match=f"pendulum.dtb: {fault}.*{warned}"):
        action = policy.act(observation)
    assert action.tolist() == policy.safe_action.tolist() and policy.fault == fault
    with warnings.catch_warnings():
        # Said once, and latched.
        warnings.simplefilter("error")
        policy.absorb(-1.0)
        assert policy.act(UPRIGHT).tolist() == policy.safe_action.tolist()
    assert policy.timestep == 1 and policy.fault == fault
    policy.reset()
    assert policy.fault is None and policy.act(UPRIGHT) == unharmed


def test_a_fault_can_be_an_exception(policy):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FaultWarning)
        with pytest.raises(FaultWarning, match="out of range"):
            policy.act([0.0, 0.0, -9.0])
        assert policy.fault == "component 2 of the observation is out of range"
        assert policy.act(UPRIGHT).tolist() == policy.safe_action.tolist()


def test_without_a_guard_the_policy_acts_on_what_is_finite(file):
    policy = Policy(file, guard=False)
    policy.reset()
    with pytest.raises(ValueError, match="component 2 of the observation is NaN or infinite"):
        policy.act([1.0, 0.0, math.nan])
    action = policy.act([0.0, 0.0, 8.5])
    assert action.tolist() != policy.safe_action.tolist() and policy.fault is None
    policy.absorb(-1.0)
    assert policy.timestep == 1


def test_a_network_that_overflows_asks_for_a_reset(file):
    for guard in (True, False):
        policy = Policy(file, guard=guard)
        expected = episode(policy, [UPRIGHT])
        policy.reset(3e38)
        if guard:
            with pytest.warns(FaultWarning, match=r"a value inside the network is NaN or infinite: .* until reset\(\)$"):
                assert policy.act(UPRIGHT).tolist() == policy.safe_action.tolist()
        else:
            with pytest.raises(RuntimeError, match="pendulum.dtb: a value inside the network is NaN or infinite"):
                policy.act(UPRIGHT)
            with pytest.raises(RuntimeError, match=r"reset\(\) comes before"):
                policy.act(UPRIGHT)
        assert episode(policy, [UPRIGHT]) == expected


def test_files_that_are_no_policy_are_refused_with_name_and_remedy(file, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot read policy .*missing.dtb.*`dt-train export RUN --out F.dtb`"):
        Policy(tmp_path / "missing.dtb")
    with pytest.raises(IsADirectoryError, match="cannot read policy"):
        Policy(tmp_path)
    damaged = tmp_path / "damaged.dtb"
    sound = bytearray(file.read_bytes())
    sound[len(sound) // 2] ^= 1
    damaged.write_bytes(sound)
    with pytest.raises(ValueError, match="damaged.dtb: .*write it again with `dt-train export`"):
        Policy(damaged)


def test_a_self_test_that_fails_names_the_step(policies, tmp_path):
    file = tmp_path / "spoilt.dtb"
    file.write_bytes(spoilt(bytearray((policies / "pendulum.dtb").read_bytes())))
    with pytest.raises(RuntimeError, match="spoilt.dtb: self-test failed: golden step 12, action 0: bits"):
        Policy(file).self_test()


def spoilt(data):
    """The last expected action, which ends the file, changed by a bit; the checksum is made to fit."""
    length = int.from_bytes(data[16:20], "little")
    at = max(i for i in range(length) if data[i]) & ~3
    data[at] ^= 1
    data[12:16] = zlib.crc32(data[:12] + data[16:length]).to_bytes(4, "little")
    return bytes(data)


def test_the_readme_runs(file, tmp_path, monkeypatch):
    (text,) = re.findall("```python\n(.*?)```", README.read_text(), re.DOTALL)
    shutil.copy(file, tmp_path / "policy.dtb")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(text, names)
    assert names["policy"].timestep == 200 and names["policy"].fault is None


def test_the_version_is_the_crates():
    assert re.fullmatch(r"\d+\.\d+\.\d+", dt_policy.__version__)
