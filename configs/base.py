"""Every key once, with its default: the recipe that docs/experiments.md led to.

Of two augmented views of a clip, f reads one and g generates the other, so that the features need
not know what augmentation changed. L_ide takes its doubles from small t, where they are clips and
not noise, and the spectral repulsion, the second-order entropy, takes part from the beginning: so
nothing needs a teacher, a late start or auxiliary tokens.

[paper] IGM, [MacDiff] and [MAMP] its published relatives, [ours] a choice that nothing published
decides; docs/method.md has the evidence. Sizes are the paper's, for NTU; a data set's own file says
what it changes, `paper_literal.py` puts the paper's reading back.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults; `igm_jax.training.config` is their typed twin."""
    c = ConfigDict()
    c.name = "base"  # the run folder is runs/<name>
    c.seed = 0  # initial weights, data order, augmentation, noise

    d = c.data = ConfigDict()
    d.dataset = "synthetic"  # the name that protocols and experiments/prepare_data.py know it by
    d.path = "data/synthetic"  # a skeleton store
    d.protocol = "xsub"  # what separates training from test clips: xsub, xview, xset
    d.pretrain_split = "train"  # "train", or "fit" to leave the validation clips out
    # camera, centred, body (the body frame of each clip's first frame), or posture: body without
    # the path that the person walks [ours]
    d.view = "posture"
    d.streams = ("joint", "motion")  # of joint, bone, motion: channels f reads, g generates [ours]
    # M, bodies of a clip that are read; absent ones count nowhere. 0 = as many as the store has.
    d.bodies = 1
    d.crop = (0.5, 1.0)  # share of the valid frames, uniform [MAMP]
    d.min_crop_frames = 64  # but at least so many, where there are as many [MAMP]
    d.crops = 2  # 2: the objective gets a second view of each clip, cropped and turned anew [ours]
    # "mixed", or "session": a batch has clips of one subject, camera and setup, or a few, so that
    # only what is done tells them apart, not who does it where. Ids are read, not labels. [ours]
    d.batches = "mixed"
    d.mirror = 0.5  # share of the clips that are mirrored, left and right exchanged [ours]
    d.shear = 0.0  # random shear of each clip, off-diagonal entries in ± this [ours; AimCLR 0.5]
    d.rotation = (0.3, 1.2, 0.3)  # ± rad about x, y (up), z, one rotation a clip [ours; MAMP 0.3]

    m = c.model = ConfigDict()
    m.condition = "tokens"  # tokens [MacDiff] or pooled: what of h(z) the generator sees
    m.projector_width = 0  # projector before the idempotency losses; 0 = none [ours]

    e = m.encoder = ConfigDict()
    e.frames = 120  # T after resizing [MAMP]
    e.joints = 25  # V; 0 = those of the store
    e.channels = 6  # C, of all streams together: 3 for each in space; 0 = those of the store
    e.patch_frames = 4  # frames in a token [MAMP]
    e.patch_joints = (
        1  # neighbouring joints of the layout in a token [MAMP]; 0 = all, a pose [ours]
    )
    e.width = 256  # D [MAMP]
    e.depth = 8  # blocks [MAMP]
    e.heads = 8  # [MAMP]
    e.mlp_width = 1024  # [MAMP]
    e.dtype = "float32"  # compute precision; bfloat16 on accelerators [ours]
    e.remat = False  # recompute activations in the backward pass
    e.stretches = 1  # mean tokens of so many stretches of a clip make its evaluated features [ours]

    a = m.adapter = ConfigDict()
    a.eta = 0.1  # strength of the high-pass filter [ours; 0.01–0.2 in use]
    a.temperature = 1.0  # of its similarity softmax [ContraNorm]
    a.over = "tokens"  # "tokens" of a clip, or pooled features of the "batch" [open in the paper]

    g = m.generator = ConfigDict()
    g.width = 256  # [MacDiff]
    g.depth = 5  # [paper]; 3 is best for linear probing in MacDiff
    g.heads = 8
    g.mlp_width = 1024
    g.dtype = "float32"
    g.remat = False

    o = c.objective = ConfigDict()
    # A baseline instead: masked_autoencoding, motion_prediction, spectral_contrastive or
    # momentum_contrast; they read the keys that they share with IGM (mask_ratio, input_noise,
    # temperature, ema_decay, queue_size). With the weights of idempotency and entropy 0 and one
    # crop, igm itself is masked conditional diffusion (MacDiff).
    o.name = "igm"
    o.schedule = "inverse_cosine"  # noise schedule [MacDiff]; or cosine, linear
    o.diffusion_steps = 1000  # K [MacDiff]
    o.mask_ratio = 0.9  # share of the tokens hidden from f; 0 conditions on the pooled feature
    o.input_noise = 0.005  # σ on the encoder's input only, in standardised units [MacDiff]
    o.condition_drop = 0.0  # share of clips generated without a condition [ours; MacDiff 0.1]
    o.feature_weight = 4.0  # λ of L_ide_feat [ours]
    o.distribution_weight = 0.0  # λ of L_ide_dist [ours]
    o.entropy_weight = 8.0  # λ of an explicit entropy term, beside the implicit one of L_gen [ours]
    o.entropy = "second_order"  # its form: coding_length, or second_order (spectral repulsion)
    o.distortion = 0.5  # ε of the coding length, also in the log
    o.start_epoch = 0  # epochs of L_gen alone
    o.ramp_epochs = 10  # then all λ grow linearly over so many: x̂0 is noise before [ours]
    o.target_temperature = 0.05  # of P(x) in L_ide_dist [ActCLR: 0.04]
    o.temperature = 0.1  # of P(x̂0) [ActCLR]
    o.queue_size = 16384  # Q, reference features; fewer than the data set on small data [ours]
    o.ema_decay = 0.0  # of a teacher that makes the targets and the queue; 0 = f itself [ours]
    o.aux_tokens = False  # tell f of z_t', t and t' while it re-encodes [paper: True]
    o.reencode_mask_ratio = 0.9  # share of x̂0's tokens hidden from f [ours]
    o.max_t = 0.15  # clips noised beyond max_t · K are left out of L_ide [ours]
    o.own_t = True  # L_ide draws its own t up to max_t · K, instead of sharing L_gen's [open]
    o.clean_clip = 5.0  # x̂0 is clipped to ± so many standard deviations [ours]
    o.clean_gradient = False  # let L_ide's gradient pass through x̂0 into g [open]
    o.target_gradient = True  # without a teacher, let L_ide_feat pull f(x) towards f(x̂0) too [open]
    o.motion_temperature = 0.75  # of motion-aware masking in motion_prediction [MAMP]
    o.spectral_mu = 4.0  # squared radius of the features in spectral_contrastive [ours]

    p = c.optimizer = ConfigDict()
    p.learning_rate = 1e-3  # peak [MAMP]
    p.final_learning_rate = 1e-5  # at the end of the cosine [MAMP]
    p.warmup_epochs = 20.0  # [MAMP]
    p.weight_decay = 0.05  # biases and norms exempt [MAMP], embeddings too [ours]
    p.betas = (0.9, 0.95)  # [MAMP]
    p.clip_norm = 1.0  # global gradient norm [ours]

    t = c.train = ConfigDict()
    t.epochs = 500  # [MacDiff]
    t.batch_size = 128  # global, over all devices [MAMP]
    t.log_every = 50  # steps
    t.knn_every = 25  # epochs between KNN on the validation clips
    t.knn_clips = 65_536  # of each part, fit and val; of more a fixed sample
    t.checkpoint_every = 25  # epochs; also after every KNN, so that the best can be kept
    t.keep_checkpoints = 2  # the last few; the best by KNN stays besides
    t.tensorboard = False  # also write TensorBoard events (needs tensorboardX)

    # Where a step is computed (docs/scaling.md): changes no number beyond its rounding, so a run
    # may go on with other values.
    r = c.parallel = ConfigDict()
    r.data = 0  # groups of devices that each hold the whole state; 0 = all devices that remain
    r.fsdp = 1  # devices in a group, among which state and clips are split; 0 = all that remain
    r.accumulate = 1  # micro-batches that go through the networks one by one: less memory

    q = c.probe = ConfigDict()
    q.epochs = 100  # [MAMP]
    q.batch_size = 256  # [MAMP]
    # One is chosen on validation clips; [MAMP] has 0.1.
    q.learning_rates = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    return c


def small_networks(c: ConfigDict) -> None:
    """Networks and batch for a thousand clips on a few CPU cores.

    A token is the whole path of one joint: V tokens instead of 30 V make a step cheap enough for
    thousands of them; with so few, hiding 0.9 would leave f two or three to see.
    """
    c.model.encoder.update(frames=32, patch_frames=32, depth=2, heads=4)
    c.model.generator.update(width=128, depth=1, heads=4, mlp_width=512)
    c.objective.update(mask_ratio=0.3, reencode_mask_ratio=0.3, queue_size=960)
    c.train.batch_size = 64


def smoke(c: ConfigDict) -> ConfigDict:
    """The same experiment in seconds: tiny networks, two epochs. Shows that it runs, no more."""
    c.name += "-smoke"
    c.model.encoder.update(frames=16, patch_frames=4, width=32, depth=2, heads=2, mlp_width=64)
    c.model.generator.update(width=32, depth=1, heads=2, mlp_width=64)
    c.objective.update(
        mask_ratio=0.5, reencode_mask_ratio=0.5, queue_size=32, start_epoch=0, ramp_epochs=1
    )
    c.optimizer.warmup_epochs = 1.0
    c.train.update(epochs=2, batch_size=16, log_every=2, knn_every=1, checkpoint_every=1)
    c.probe.epochs = 5
    return c


def variants(argument: str | None, choices: tuple[str, ...]) -> tuple[str, bool]:
    """Reads `configs/x.py:PROTOCOL`, `:smoke` or `:PROTOCOL-smoke`.

    Args:
      argument: what stands behind the colon.
      choices: protocols of the data set, its default first.

    Returns:
      `(protocol, smoke)`.

    Raises:
      ValueError: anything else.
    """
    words = argument.split("-") if argument else []
    is_smoke = "smoke" in words
    protocols = [w for w in words if w != "smoke"] or [choices[0]]
    if len(protocols) > 1 or protocols[0] not in choices:
        raise ValueError(
            f"config variant {argument!r} is unknown: use one of {', '.join(choices)}, with "
            "-smoke behind it for a run of seconds, or smoke alone"
        )
    return protocols[0], is_smoke
