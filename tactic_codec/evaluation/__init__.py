"""Rate–accuracy–distortion curves of models and of other codecs, from real bytes.

    pictures    names ─ held-out list, limit ─▶ squares, or whole pictures, with their truths
    coders      a model at every level; JPEG, WebP, AVIF, HEIC, JPEG 2000 and JPEG XL
    cache       what was measured once, on disk, so that an interrupted run goes on
    evaluate    pictures ─ code ─ decode ─▶ bytes, PSNR, MS-SSIM, the task's facts ─▶ Report
    results     Point (means, 95 % intervals) ─▶ Curve of a coder on a folder ─▶ Report
    bdrate      two curves ─▶ how much less rate one needs for the same quality
    equal       a model beside other codecs at the same mean bytes
    judge       an ONNX file of the user's that answers in the model's place; needs torch
    retrain     heads fine-tuned on what each coder gives back, with equal budgets; needs torch
    keeper      what coders give back, as files for other tools
    formats     results ─▶ JSON, CSV, Markdown, text
    plot        results ─▶ PNG and SVG; needs matplotlib
    page        results, pictures ─▶ a page for a browser

The reference network is the task network of the first model. It answers about every picture before
it is coded; agreement is the share of pictures, or pixels, that keep the answer. bpp is 8 × bytes ÷
pixels of what was coded, the mean over the pictures: over squares of one size that is the same as
8 × mean bytes ÷ pixels. Folders are never pooled.
"""
