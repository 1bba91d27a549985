package qupath.opencv.ops

import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.images.servers.ColorTransforms.ColorTransform

interface ImageOp { }

class Step implements ImageOp {
    String name
    double[] values
}

class ImageDataOp {
    final List<ImageOp> steps = []

    ImageDataOp appendOps(ImageOp... ops) {
        steps.addAll(ops)
        return this
    }
}

class ImageOps {
    static ImageDataOp buildImageDataOp(ColorTransform... transforms) { return new ImageDataOp() }

    static class Filters {
        static ImageOp gaussianBlur(double sigma) { return new Step(name: 'blur', values: [sigma] as double[]) }
    }

    static class Channels {
        static ImageOp deconvolve(ColorDeconvolutionStains stains) {
            assert stains != null
            return new Step(name: 'deconvolve')
        }
        static ImageOp extract(int... channels) {
            return new Step(name: 'extract', values: channels.collect { it as double } as double[])
        }
        static ImageOp sum() { return new Step(name: 'sum') }
    }

    static class Threshold {
        static ImageOp threshold(double... thresholds) { return new Step(name: 'threshold', values: thresholds) }
    }
}
