package qupath.lib.images.servers

class PixelCalibration {
    private final double width, height
    private final boolean calibrated

    PixelCalibration(double width, double height, boolean calibrated) {
        this.width = width
        this.height = height
        this.calibrated = calibrated
    }

    boolean hasPixelSizeMicrons() { return calibrated }
    double getPixelWidthMicrons() { return calibrated ? width : Double.NaN }
    double getPixelHeightMicrons() { return calibrated ? height : Double.NaN }
    double getAveragedPixelSizeMicrons() { return calibrated ? (width + height) / 2 : Double.NaN }
    PixelCalibration createScaledInstance(double scaleX, double scaleY) {
        return new PixelCalibration(width * scaleX, height * scaleY, calibrated)
    }
}

class ImageServerMetadata {
    String name
    double magnification = Double.NaN
}

class ImageServerBuilder {
    static class ServerBuilder {
        Map description = [builderType: 'uri']
    }
}

class ImageServer {
    ImageServerMetadata metadata = new ImageServerMetadata()
    PixelCalibration pixelCalibration
    int width, height
    boolean rgb = true
    String uri
    ImageServerBuilder.ServerBuilder builder = new ImageServerBuilder.ServerBuilder()

    boolean isRGB() { return rgb }
    Collection<URI> getURIs() { return uri == null ? [] : [URI.create(uri)] }
    String getServerType() { return 'ImageJ' }
}

/** Its metadata is XML, not JSON. */
class BioFormatsImageServer extends ImageServer {
    String getServerType() { return 'Bio-Formats' }
    String dumpMetadata() { return '<OME/>' }
}

class OpenslideImageServer extends ImageServer {
    int fullWidth, fullHeight

    String getServerType() { return 'OpenSlide' }
    String dumpMetadata() {
        return '{"openslide.level[0].width": "' + fullWidth + '", "openslide.level[0].height": "' + fullHeight + '"}'
    }
}

class ColorTransforms {
    static interface ColorTransform { }
    static class Mean implements ColorTransform { }

    static ColorTransform createMeanChannelTransform() { return new Mean() }
}
