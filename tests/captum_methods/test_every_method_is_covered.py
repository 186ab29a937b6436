"""The tables of this folder hold every attribution method that Captum has, and those that cannot work say why."""

from __future__ import annotations

import inspect

import pytest
import torch
from by_hand import PLACES, TARGET, Case
from captum import attr
from captum.attr._utils.lrp_rules import IdentityRule
from test_layer_methods import LAYER_METHODS
from test_neuron_methods import NEURON_METHODS
from test_primary_methods import PRIMARY_METHODS
from torch import nn

# Captum tells at each call which hooks and flags it sets.
pytestmark = pytest.mark.filterwarnings(r"ignore:::captum\.")

ABSTRACT = {
    attr.Attribution,
    attr.GradientAttribution,
    attr.LayerAttribution,
    attr.NeuronAttribution,
    attr.PerturbationAttribution,
}
FOR_LANGUAGE_MODELS = {attr.LLMAttribution, attr.LLMGradientAttribution, attr.RemoteLLMAttribution}
CANNOT_WORK = {
    attr.LRP: lambda case: attr.LRP(case.vit),
    attr.LayerLRP: lambda case: attr.LayerLRP(case.vit, case.layer),
}


def test_every_attribution_method_of_captum_is_in_a_table():
    methods = {thing for thing in vars(attr).values() if inspect.isclass(thing) and issubclass(thing, attr.Attribution)}
    tables = [set(LAYER_METHODS), set(NEURON_METHODS), set(PRIMARY_METHODS), set(CANNOT_WORK)]
    covered = set().union(*tables)
    assert len(covered) == sum(map(len, tables))
    assert methods - ABSTRACT - FOR_LANGUAGE_MODELS == covered


@pytest.mark.parametrize("method", CANNOT_WORK, ids=lambda method: method.__name__)
@pytest.mark.parametrize("family", PLACES)
def test_layer_wise_relevance_propagation_has_no_rules_for_a_transformer(family, method):
    case = Case(family)  # of its own: when LRP gives up, it leaves the rules that it had set
    no_rule = "has no rule defined and nodefault rule exists for this module type"
    with pytest.raises(TypeError, match=no_rule):
        CANNOT_WORK[method](case).attribute(case.images, target=TARGET)
    # It is the model that has none: without the package, and with a rule where there is an obvious one.
    for module in case.plain.modules():
        if type(module) is nn.Identity:
            module.rule = IdentityRule()
    with pytest.raises(TypeError, match=rf"LayerNorm'> {no_rule}"):
        attr.LRP(case.plain).attribute(case.images, target=TARGET)


def test_layer_feature_permutation_takes_no_target_on_any_model(case: Case):
    convolution = nn.Conv2d(3, 4, 8, 8).double()
    conv_net = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for model, layer in ((case.vit, case.layer), (conv_net, convolution)):
        mask = torch.zeros(1, 1, 1, 1, dtype=torch.long)
        with pytest.raises(AssertionError, match="Cannot choose target column"):
            attr.LayerFeaturePermutation(model, layer).attribute(case.images, target=TARGET, layer_mask=mask)
