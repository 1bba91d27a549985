package qupath.opencv.ml.pixel

import qupath.lib.images.servers.PixelCalibration
import qupath.lib.objects.classes.PathClass
import qupath.opencv.ops.ImageDataOp

class PixelClassifier {
    ImageDataOp op
    PixelCalibration resolution
    Map<Integer, PathClass> classes
}

class PixelClassifiers {
    static PixelClassifier createClassifier(ImageDataOp op, PixelCalibration resolution, Map<Integer, PathClass> classes) {
        return new PixelClassifier(op: op, resolution: resolution, classes: classes)
    }
}
