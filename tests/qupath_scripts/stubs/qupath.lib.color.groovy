package qupath.lib.color

class ColorDeconvolutionStains {
    String name

    static String getColorDeconvolutionStainsAsString(ColorDeconvolutionStains stains, int nDecimalPlaces) {
        return stains == null ? '' : '{"Name" : "' + stains.name + '", "Stain 1" : "Hematoxylin"}'
    }
}
