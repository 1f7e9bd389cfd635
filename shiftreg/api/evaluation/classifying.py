"""Training and testing the classifiers that say whether a concept is in an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from shiftreg.api.changes import appearing, change
from shiftreg.api.evaluation.class_images import class_prompts, generate_classes
from shiftreg.api.evaluation.classifier_values import (
    ClassifierResult,
    ClassifierTest,
    ImagenetClassifier,
)
from shiftreg.api.evaluation.classifiers import classifier_path, require_classifier
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.concepts import slug
from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.evaluation import classifier_training as training
from shiftreg.evaluation import pretrained
from shiftreg.evaluation.classifier import measure_accuracy, save_classifier
from shiftreg.evaluation.classifier_training import Trainable, check_settings
from shiftreg.evaluation.image_files import read_classes


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
    """Trains a classifier of the base's images.

    Args:
        workspace: Where.
        folder: Images, each in a subfolder that is its class. Without it, the base generates them:
            a class for each concept, and one of ordinary images, "plain".
        concepts: What to generate; all registered and protected names if empty. Not with folder.
        images: Images to generate of each class.
        network: "small", or "resnet18" with features from ImageNet.
        weights: ResNet18's, a file; torchvision's download if None.
        epochs: Passes over the images; the network's own number if None.
        learning_rate: The highest; the network's own if None.
        seed: Of images and training.
        out: The classifier's file. By default the one that ``verify``, ``evaluate`` and ``attack``
            look for: the home's ``classifiers/BASE.safetensors``.
        overwrite: Replace that file.
        observe: Told of the progress.

    Raises:
        InvalidInputError: Too few images or classes, images of different sizes, concepts
            together with a folder, or settings that cannot be trained with.
        NotFoundError: The folder or the weights do not exist, or cannot be downloaded.
        IntegrityError: An image or the weights' file is damaged.
        AlreadyExistsError: The classifier's file exists.
        StorageError: The disk is full or read-only.
    """
    if folder is not None and concepts:
        raise InvalidInputError(
            "A folder's subfolders are the classes, so concepts do not go with a folder."
        )
    if images < 2:
        raise InvalidInputError(f"At least 2 images a class are needed, and {images} asked for.")
    check_settings(network, weights, epochs, learning_rate)
    if network == "resnet18":
        # What is wrong with the weights should be said before hours of painting.
        pretrained.pretrained_resnet18(classes=2, weights=weights)
    path = out or _own_place(workspace)
    generated = None
    # Written ahead before the file appears, and recorded after it.
    with ExitStack() as stack, atomic_file(path, overwrite=overwrite) as partial:
        if folder is None:
            prompts = class_prompts(workspace, concepts, seed)
            generated = generate_classes(workspace, prompts, images, seed, observe)
            labels, samples = generated.labels, generated.images
        else:
            labels, samples = read_classes(folder)
        classifier, measured = training.train_classifier(
            samples,
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
                "images": len(samples),
                "accuracy": measured.overall.value,
            },
            recovery=appearing(path, "classifier"),
        )
        stack.enter_context(coming)
    if generated:
        generated.unfinished.discard()
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
        images=len(samples),
        source=str(folder) if folder else f"generated by {workspace.base.name}",
    )


def test_classifier(
    workspace: Workspace,
    folder: Path,
    file: Path | None = None,  # noqa: PT028 - a use case, not a test
) -> ClassifierTest:
    """Asks a classifier about images whose classes are known.

    Args:
        workspace: Where.
        folder: Images, each in a subfolder that is named after its class.
        file: The classifier; by default the one of the base.

    Raises:
        NotFoundError: The folder or the file does not exist, the base has no classifier, or the
            classifier does not know a class.
        InvalidInputError: A subfolder without images, or images of different sizes.
        IntegrityError: An image or the classifier is damaged.
    """
    classifier = require_classifier(workspace, file)
    names, samples = read_classes(folder)
    spelled = {slug(label): label for label in classifier.labels}
    labels = [spelled.get(slug(name), name) for name in names]
    measured = measure_accuracy(classifier, samples, labels)
    return ClassifierTest(
        classifier=classifier.name,
        digest=classifier.digest,
        folder=folder,
        counts=Counter(labels),
        accuracy=measured.overall,
        per_class=measured.per_class,
        confusion=measured.confusion,
        images=len(samples),
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
