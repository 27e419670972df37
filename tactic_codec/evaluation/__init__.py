"""Rate–accuracy–distortion curves of models and of other codecs, from real bytes.

    pictures    names ─ held-out list, limit ─▶ squares, with labels where folders are classes;
                whole pictures where there are label maps
    coders      a model at every level; JPEG, WebP, AVIF, HEIC, JPEG 2000 and JPEG XL
    measure     square ─ code ─ decode ─▶ bytes, PSNR, MS-SSIM, answer of the reference network
    cache       what was measured once, on disk, so that an interrupted run goes on
    bench       every picture at every setting, from the cache where it has it
    evaluate    squares ─ code ─ decode ─▶ agreement and accuracy of a point
    masks       whole pictures ─ code ─ decode ─▶ confusion with label maps ─▶ mean IoU of a point
    curves      measurements ─▶ Point (means, 95 % intervals) ─▶ Curve of a coder on a folder
    bdrate      two curves ─▶ how much less rate one needs for the same quality
    comparisons     every model with every other curve
    equal       a model beside other codecs at the same mean bytes
    retrain     heads fine-tuned on what each coder gives back, with equal budgets; needs torch
    retrain_masks   the same for segmentation networks
    head_trainer    what the two have in common
    tables      results ─▶ JSON, CSV, Markdown, text
    plot        results ─▶ PNG and SVG; needs matplotlib

The reference network is the task network of the first model. It labels every picture, or each of
its pixels, before it is coded; agreement is the share of pictures, or pixels, that keep that label.
bpp is 8 × bytes ÷ pixels of what was coded, the mean over the pictures: over squares of one size
that is the same as 8 × mean bytes ÷ pixels. Folders are never pooled.
"""
