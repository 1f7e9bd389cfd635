"""Training and testing the classifiers that say whether a concept is in a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from shiftreg.api.changes import appearing, change
from shiftreg.api.evaluation.class_pictures import class_prompts, paint_classes
from shiftreg.api.evaluation.classifier_values import (
    ClassifierResult,
    ClassifierTest,
    ImagenetClassifier,
)
from shiftreg.api.evaluation.judging import classifier_path, require_judge
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.concepts import slug
from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.evaluation import classifier_training as training
from shiftreg.evaluation import pretrained
from shiftreg.evaluation.accuracy import measure_accuracy
from shiftreg.evaluation.class_folders import read_classes
from shiftreg.evaluation.classifier import save_classifier
from shiftreg.evaluation.classifier_recipe import Trainable, check_settings


def train_classifier(
    workspace: Workspace,
    folder: Path | None = None,
    *,
    concepts: Sequence[str] = (),
    images: int = 100,
    network: Trainable = "small",
    weights: Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
    observe: Observer = ignore_progress,
) -> ClassifierResult:
    """Trains a classifier to judge the base's pictures by.

    Args:
        workspace: Where.
        folder: Pictures, each in a subfolder that is its class. Without it, the base paints them:
            a class for each concept, and one of ordinary pictures, "plain".
        concepts: What to paint; all registered and protected names if empty. Not with ``folder``.
        images: Pictures to paint of each class.
        network: "small", or "resnet18" with features from ImageNet.
        weights: ResNet18's, a file; torchvision's download if None.
        epochs: Passes over the pictures; the network's own number if None.
        learning_rate: The highest; the network's own if None.
        seed: Of pictures and training.
        out: The classifier's file. By default the one that ``verify``, ``evaluate`` and ``attack``
            look for: the home's ``classifiers/BASE.safetensors``.
        overwrite: Replace that file.
        observe: Told of the progress.

    Raises:
        InvalidInputError: Too few pictures or classes, pictures of different sizes, concepts
            together with a folder, or settings that cannot be trained with.
        NotFoundError: The folder or the weights do not exist, or cannot be downloaded.
        IntegrityError: A picture or the weights' file is damaged.
        AlreadyExistsError: The classifier's file exists.
        StorageError: The disk is full or read-only.
    """
    if folder is not None and concepts:
        raise InvalidInputError(
            "A folder's subfolders are the classes, so concepts do not go with a folder."
        )
    if images < 2:
        raise InvalidInputError(f"At least 2 pictures a class are needed, and {images} asked for.")
    check_settings(network, weights, epochs, learning_rate)
    if network == "resnet18":
        # What is wrong with the weights should be said before hours of painting.
        pretrained.pretrained_resnet18(classes=2, weights=weights)
    path = out or _own_place(workspace)
    painted = None
    # The event is announced before the file appears, and told after it.
    with ExitStack() as announced, atomic_file(path, overwrite=overwrite) as partial:
        if folder is None:
            prompts = class_prompts(workspace, concepts, seed)
            painted = paint_classes(workspace, prompts, images, seed, observe)
            labels, pictures = painted.labels, painted.images
        else:
            labels, pictures = read_classes(folder)
        classifier, measured = training.train_classifier(
            pictures,
            labels,
            network=network,
            weights=weights,
            epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
            observe=lambda *progress: observe(Progress(*progress)),
        )
        save_classifier(classifier, partial)
        digest = file_digest(partial)
        coming = change(
            workspace,
            "train classifier",
            base=workspace.base.name,
            digests={"base": workspace.base.digest, "classifier": digest},
            details={
                "network": network,
                "images": len(pictures),
                "accuracy": measured.overall.value,
            },
            recovery=appearing(path, "classifier"),
        )
        announced.enter_context(coming)
    if painted:
        painted.unfinished.discard()
    return ClassifierResult(
        path=path,
        digest=digest,
        labels=classifier.labels,
        counts=Counter(labels),
        accuracy=measured.overall,
        per_class=measured.per_class,
        confusion=measured.confusion,
        network=network,
        seed=seed,
        images=len(pictures),
        source=str(folder) if folder else f"painted by {workspace.base.name}",
    )


def test_classifier(
    workspace: Workspace,
    folder: Path,
    file: Path | None = None,  # noqa: PT028 - a use case, not a test
) -> ClassifierTest:
    """Asks a classifier about pictures whose classes are known.

    Args:
        workspace: Where.
        folder: Pictures, each in a subfolder that is named after its class.
        file: The classifier; the one that judges the base's pictures if None.

    Raises:
        NotFoundError: The folder or the file does not exist, the base has no classifier, or the
            classifier does not know a class.
        InvalidInputError: A subfolder without pictures, or pictures of different sizes.
        IntegrityError: A picture or the classifier is damaged.
    """
    judge = require_judge(workspace, file)
    names, pictures = read_classes(folder)
    spelled = {slug(label): label for label in judge.classifier.labels}
    labels = [spelled.get(slug(name), name) for name in names]
    measured = measure_accuracy(judge.classifier, pictures, labels)
    return ClassifierTest(
        judge=judge.name,
        digest=judge.digest,
        folder=folder,
        counts=Counter(labels),
        accuracy=measured.overall,
        per_class=measured.per_class,
        confusion=measured.confusion,
        images=len(pictures),
    )


def imagenet_classifier(
    weights: Path | None, out: Path, *, overwrite: bool = False
) -> ImagenetClassifier:
    """Makes a classifier of objects from torchvision's ResNet50, whose weights do not come along.

    Args:
        weights: A state dict of ``resnet50``, ``.safetensors`` or ``.pth``; torchvision's download
            if None.
        out: The classifier's file.
        overwrite: Replace it.

    Raises:
        NotFoundError: The weights do not exist, or cannot be downloaded.
        IntegrityError: Their file is damaged, or holds code.
        InvalidInputError: They are another network's.
        AlreadyExistsError: The classifier's file exists.
        StorageError: The disk is full or read-only.
    """
    with atomic_file(out, overwrite=overwrite) as partial:
        classifier = pretrained.imagenet_classifier(weights)
        save_classifier(classifier, partial)
    return ImagenetClassifier(out, file_digest(out), classifier.labels)


def _own_place(workspace: Workspace) -> Path:
    path = classifier_path(workspace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder '{path.parent}' could not be made: {error.strerror or error}. "
            "Check the disk, or choose another home."
        ) from error
    return path
