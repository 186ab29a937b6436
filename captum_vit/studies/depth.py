"""The study of depth: whether renders go from fine structure to large, site by site, and at random weights too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import Unpack

from captum_vit.checks import check_adapted, whole_number
from captum_vit.errors import StudyError
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.kinds import FEED_FORWARD
from captum_vit.probes.selection import select_neurons
from captum_vit.probes.site import Site
from captum_vit.studies.drawing import finish, numbers, panels
from captum_vit.studies.keeping import Kept
from captum_vit.studies.rendered import (
    ALL_SITES,
    FREQUENCY,
    PROGRESSION,
    SCALE,
    Columns,
    Measured,
    Task,
    counted,
    measure_all,
    no_progression,
    progression,
    render_all,
    renders_folder,
    settings_of,
    structure,
)
from captum_vit.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNED, RANDOM = "learned", "random"
DEFAULT_UNITS = 8


def depth(
    vit: AdaptedModel,
    control: AdaptedModel | None = None,
    *,
    name: str | None = None,
    units: int = DEFAULT_UNITS,
    sites: Sequence[str] | None = None,
    batch_size: int = 8,
    progress: bool = True,
    keep: str | Path | None = None,
    **settings: Unpack[PlanSettings],
) -> Study:
    """How fine the structure of renders is, by depth (Ghiasi et al. 2022, Figure 1), beside random weights.

    Parameters
    ----------
    vit
        The adapted model.
    control
        The same architecture at random weights (:func:`captum_vit.studies.untrained`), of which the same neurons are
        rendered; None: no control.
    name
        What the table calls the model; its class when not given.
    units
        Neurons of each site, drawn by the seed; all, where there are fewer.
    sites
        Names of sites; all feed-forward blocks when not given.
    batch_size
        Neurons to render at a time.
    progress
        Whether to show a bar, and to say before how long it takes, if that is more than a minute.
    keep
        Folder of results, as for :func:`captum_vit.studies.frequency`. Renders are kept below it, as
        :func:`captum_vit.optvis.folder.render_into` writes them, so that what was interrupted goes on.
    **settings
        ``recipe``, ``steps``, ``size``, ``canvas``, ``seed``, ``dtype``, as for :func:`captum_vit.render`.

    Returns
    -------
    Study
        For the learned weights, and for the random ones, a row for each site and one for all. ``frequency`` is the mean
        spatial frequency in cycles per shorter side, ``scale`` how far apart places are correlated by a half, as a
        share of the shorter side; means over the renders that mean something, and ``failed`` says how many do not.
        ``finer with depth`` is the share of pairs of renders of two sites of which the deeper one has the higher
        frequency, ``larger with depth`` the larger scale; 0.5 is chance.

    Raises
    ------
    AddressError
        There is no such site.
    StudyError
        The number of units means nothing, the control is of another architecture, or ``keep`` has the study with other
        settings.
    RecipeError, PlanError
        As for :func:`captum_vit.render`.
    """
    check_adapted(vit)
    whole_number("units", units, error=StudyError)
    chosen = _sites(vit, sites)
    plan = RenderPlan.of(vit, **settings)
    asked = {**settings_of(plan, settings), "units": units, "sites": None if sites is None else list(sites)}
    kept = Kept(keep, "depth", vit, name, {**asked, "control": control is not None})
    if kept.done is not None:
        return kept.done
    neurons = select_neurons(vit, [f"{site.name}:random:{min(units, site.units)}" for site in chosen], plan.seed)
    models = {LEARNED: vit} if control is None else {LEARNED: vit, RANDOM: _checked(control, chosen)}
    tasks = [
        Task(model, neurons, RenderPlan.of(model, **settings), renders_folder(keep, kept.name, weights))
        for weights, model in models.items()
    ]
    renders = render_all(tasks, batch_size=batch_size, progress=progress)
    made = {weights: measure_all(each) for weights, each in zip(models, renders, strict=True)}
    rows = [
        {"parameters": kept.facts["parameters"], "weights": weights, **row}
        for weights, measured in made.items()
        for row in _rows(chosen, measured, plan)
    ]
    facts = {
        "renders": {weights: task.plan.settings for weights, task in zip(models, tasks, strict=True)},
        "neurons": {weights: [neuron.record for neuron in measured] for weights, measured in made.items()},
    }
    return kept.finish(rows, facts, (SCALE, *PROGRESSION))


def draw(study: Study) -> Figure:
    """Frequency to the left and scale to the right, by depth; dashed at random weights."""
    figure, axes = panels(2)
    for ax, column, unit in zip(
        axes, (FREQUENCY, SCALE), ("cycles per shorter side", "% of the shorter side"), strict=True
    ):
        factor = 100 if column in study.shares else 1
        for number, model in enumerate(study.models):
            for weights, style in ((LEARNED, "-"), (RANDOM, "--")):
                rows = [
                    row
                    for row in study.rows
                    if row["model"] == model and row["weights"] == weights and row["site"] != ALL_SITES
                ]
                if not rows:
                    continue
                depths = numbers(rows, "depth")
                middle, *ends = (
                    [factor * value for value in numbers(rows, end + column)] for end in ("", "low ", "high ")
                )
                label = model if weights == LEARNED else f"{model}, random weights"
                ax.plot(depths, middle, style, marker="o", markersize=4, color=f"C{number}", label=label)
                ax.fill_between(
                    depths, *ends, color=f"C{number}", alpha=0.2 if weights == LEARNED else 0.08, linewidth=0
                )
        ax.set_title(f"{column} of the renders")
        ax.set_xlabel("depth, first site to last")
        ax.set_ylabel(unit)
        ax.set_ylim(bottom=0)
    finish(axes, "cycles per shorter side")
    return figure


def _sites(vit: AdaptedModel, names: Sequence[str] | None) -> list[Site]:
    """The sites that are asked for, in the order of the forward pass."""
    if names is None:
        return [site for site in vit.sites if site.kind == FEED_FORWARD]
    wanted = {vit.site(name).name for name in names}
    return [site for site in vit.sites if site.name in wanted]


def _checked(control: AdaptedModel, chosen: Sequence[Site]) -> AdaptedModel:
    """A control, if it has the sites that are chosen of the model, as wide."""
    check_adapted(control, "control")
    widths = {site.name: site.units for site in control.sites}
    for site in chosen:
        if widths.get(site.name) != site.units:
            raise StudyError(
                f"the control has no site {site.name} with {site.units} units, as the model does; give the same "
                "architecture at random weights"
            )
    return control


def _rows(sites: Sequence[Site], measured: Sequence[Measured], plan: RenderPlan) -> Iterator[Columns]:
    """A row for each site, and one for all."""
    by_site = [[neuron for neuron in measured if neuron.address.site == site.name] for site in sites]
    for place, (site, of_site) in enumerate(zip(sites, by_site, strict=True)):
        grid = "x".join(map(str, site.grid(plan.input_size)))
        where: Columns = {"site": site.name, "depth": place / max(1, len(sites) - 1), "grid": grid}
        yield {**where, **counted(of_site), **structure(of_site, plan.seed), **no_progression()}
    where = {"site": ALL_SITES, "depth": None, "grid": None}
    yield {**where, **counted(measured), **structure(measured, plan.seed), **progression(by_site, plan.seed)}
